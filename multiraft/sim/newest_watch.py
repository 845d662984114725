"""What leaseholders remember of the newest versions is what their engines have.

What they remember of keys that a split has taken from their range is not looked at: others write
these now, and no request for them passes the check of spans.
"""

from collections.abc import Iterator
from itertools import islice

from multiraft import errors
from multiraft.ids import RangeId
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader
from multiraft.ranges.store import Store
from multiraft.storage import layout

_LOOKED_AT_MAX = 50


def wrong(store: Store) -> Iterator[tuple[RangeId, str]]:
    """Yield what is wrong, between two turns, of some that the leaseholders of a store remember."""
    engine = EngineReader(store.context.engine)
    holders = {
        replica.leaseholder.reader: replica
        for replica in store.replicas.values()
        if replica.leaseholder is not None
    }
    for prefix, (reader, version) in islice(store.context.newest.entries.items(), _LOOKED_AT_MAX):
        holder = holders.get(reader)
        if holder is None:
            continue  # Its term is over: nobody asks it.
        key = layout.unescape(prefix[1:])
        if holder.mismatch(key, None) is not None:
            continue
        try:
            last = reads.newest_and_last(engine, key)[1]
            found = reads.get_write(engine, key, version.id, last)
        except errors.MultiraftError:
            return  # The disk has failed, or its bits rot: the store stops when it reads there.
        if found != version:
            problem = f"n{store.context.node_id} remembers {version!r} as the newest of {key!r}"
            yield holder.range_id, problem
