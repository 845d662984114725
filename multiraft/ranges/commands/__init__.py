"""Evaluation: a part of a request and the engine's present state in, results and effects out.

One file per family. Everything here is pure; the leaseholder calls it under the part's latches.
"""
