"""What leaseholders remember of the newest versions is what their engines have.

Purpose
    Whatever is asked for is compared at that very moment; and some of the rest between two turns.
Caveats
    What they remember of keys that a split has taken from their range is not looked at: others
    write these now, and no request for them passes the check of spans.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from multiraft import errors
from multiraft.ids import RangeId
from multiraft.mvcc import reads
from multiraft.mvcc.newest import LeaseholderReader
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.versions import Version
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.storage import layout

_LOOKED_AT_MAX = 50

Remembered = tuple[LeaseholderReader, Version]
Report = Callable[[RangeId, str], None]


class _Watched(OrderedDict[bytes, Remembered]):
    """The entries of a store's NewestVersions."""

    def __init__(self, store: Store, report: Report) -> None:
        super().__init__()
        self._store = store
        self._report = report

    def get(self, prefix: bytes, default: Any = None) -> Any:  # noqa: ANN401
        """Return what is remembered, and compare it."""
        found = super().get(prefix, default)
        if found is not None:
            for range_id, problem in _compared(self._store, prefix, found):
                self._report(range_id, problem)
        return found


def watch(store: Store, report: Report) -> None:
    """Compare what the leaseholders of a new store remember whenever they ask for it."""
    store.context.newest.entries = _Watched(store, report)


def wrong(store: Store) -> Iterator[tuple[RangeId, str]]:
    """Yield what is wrong, between two turns, of some that the leaseholders of a store remember."""
    for prefix, remembered in islice(store.context.newest.entries.items(), _LOOKED_AT_MAX):
        yield from _compared(store, prefix, remembered)


def _compared(store: Store, prefix: bytes, remembered: Remembered) -> Iterator[tuple[RangeId, str]]:
    reader, version = remembered
    key = layout.unescape(prefix[1:])
    holder = _holder(store, reader)
    if holder is None or holder.mismatch(key, None) is not None:
        return  # Its term is over, or the key is another range's: nobody asks it.
    engine = EngineReader(store.context.engine)
    try:
        last = reads.newest_and_last(engine, key)[1]
        found = reads.get_write(engine, key, version.id, last)
    except errors.MultiraftError:
        return  # The disk has failed, or its bits rot: the store stops when it reads there.
    if found != version:
        problem = f"n{store.context.node_id} remembers {version!r} as the newest of {key!r}"
        yield holder.range_id, problem


def _holder(store: Store, reader: LeaseholderReader) -> Replica | None:
    for replica in store.replicas.values():
        if replica.leaseholder is not None and replica.leaseholder.reader is reader:
            return replica
    return None
