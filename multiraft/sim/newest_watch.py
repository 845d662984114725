"""What leaseholders remember of the newest versions is what their engines have."""

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
        replica.leaseholder.reader: range_id
        for range_id, replica in store.replicas.items()
        if replica.leaseholder is not None
    }
    for prefix, (reader, version) in islice(store.context.newest.entries.items(), _LOOKED_AT_MAX):
        if reader not in holders:
            continue  # Its term is over: nobody asks it.
        key = layout.unescape(prefix[1:])
        try:
            last = reads.newest_and_last(engine, key)[1]
            found = reads.get_write(engine, key, version.id, last)
        except errors.MultiraftError:
            return  # The disk has failed, or its bits rot: the store stops when it reads there.
        if found != version:
            problem = f"n{store.context.node_id} remembers {version!r} as the newest of {key!r}"
            yield holders[reader], problem
