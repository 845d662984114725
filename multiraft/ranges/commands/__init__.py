"""Evaluation: a part of a request and the engine's present state in, results and effects out.

One file per family: `reads` and `writes` outside transactions; `transaction_reads`, `intents`,
`records` and `one_phase` of transactions, in a `setting`; `validation` of all. Everything here is
pure; the leaseholder calls it under the part's latches.
"""
