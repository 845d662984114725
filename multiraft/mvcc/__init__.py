"""Versions of keys on an ordered engine: what a read sees and what a write adds.

Every key has a chain of versions, newest first, each with the timestamp and the ID of the write
that made it. Everything here is pure: functions from a `Reader` to values.

The life of a write: the leaseholder has latched the keys and fixed the timestamp. It asks
`reads.find_write` whether an earlier attempt was applied (unless its recent writes show that none
was), makes a `WriteSet`, evaluates the operations against it, and proposes its `effects()`. Every
replica puts these into its engine as they are.

The life of a read: `reads.get` or `reads.scan` at the read's timestamp, on the engine itself or,
for what goes on after an `await`, on a view.

Modules
    versions    the stored form of one version
    reader      the part of an engine or a view that is needed here
    reads       newest, get, scan, find_write
    writes      WriteSet: the versions one part adds
    newest      the newest versions of keys, remembered
    intents     locks of transactions, and what one of their parts changes
    statistics  RangeStats, and the recount of a span
    garbage     which versions may go
    leftovers   which records and locks transactions have left

Caveats: nothing here knows of locks, latches, leases or the span of a range; the caller has checked
these. A reader of an engine changes between calls; within one evaluation nobody awaits.
"""
