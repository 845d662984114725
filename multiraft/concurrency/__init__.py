"""Who may touch which keys of a range, when, and at which timestamps.

The leaseholder of a range sends every request through here before it evaluates it. All is pure and
in memory, one of each per range, and none survives a change of leader: what a new leader must know
of the past is one timestamp, above everything that was served before.

The life of a request: acquire its `Latch`; if the `LockTable` has a lock of a transaction in its
way, queue there without latches and begin anew; take a timestamp from the clock; for a write,
raise it to `TimestampCache.write_floor` of each key and ask `RecentWrites.knows_absence`; evaluate.
A read then adds itself to the timestamp cache and releases at once. A write is proposed, and
releases when its command is applied or its term is lost.

Modules
    latches          requests on the same keys take turns
    lock_table       requests wait in line for locks of transactions
    lock_waits       its nouns: a lock, a waiter, the queues of a key
    wait_graph       transactions that wait in a circle, and which of them has to end
    told_waits       the same over several stores, by what they tell each other
    timestamp_cache  a write must not change what was read
    recent_writes    most writes need no search for an earlier attempt

Caveats: the order matters. The timestamp of a read is in the cache before its latch is released, so
that a write waiting for the latch sees it.
"""
