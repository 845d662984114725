"""What a node finds when it starts must be whole: nothing half written, nothing left over.

Invariants, of the disk of a node that is about to start
    - The descriptor that is stored is the one of the applied index that is stored (rule S5).
    - The rows of a range are those that its statistics count (trap T5).
    - Every row lies in the span of a replica (rule A4).
"""

from collections.abc import Callable, Iterable

import msgspec

from multiraft import errors
from multiraft.ids import Index, RangeId
from multiraft.mvcc import statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.ranges.state import RangeState, StoredReplica
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine

Report = Callable[[RangeId, str | None], None]

_pack = msgspec.msgpack.Encoder().encode
_INDEXES_KEPT_MAX = 4_096


class StartWatch:
    """One per cluster."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._descriptors: dict[RangeId, dict[Index, bytes]] = {}

    def applied(self, number: int, range_id: RangeId, index: Index, descriptor: bytes) -> None:
        """A replica has written its applied state, and has this packed descriptor with it."""
        known = self._descriptors.setdefault(range_id, {})
        if known.setdefault(index, descriptor) != descriptor:
            self._report(range_id, f"n{number} has another descriptor at {index} than others")
        if len(known) > _INDEXES_KEPT_MAX:
            del known[next(iter(known))]

    def forget_below(self, range_id: RangeId, floor: Index) -> None:
        """No replica has applied less than `floor`, nor will find on its disk that it has."""
        known = self._descriptors.get(range_id, {})
        for index in [index for index in known if index < floor]:
            del known[index]

    def found(
        self,
        number: int,
        engine: MemoryEngine,
        replicas: Iterable[StoredReplica],
    ) -> None:
        """A node is about to start with these replicas."""
        states = [r.state for r in replicas if r.state is not None]
        try:
            for state in states:
                range_id, index = state.descriptor.range_id, state.applied.index
                known = self._descriptors.get(range_id, {}).get(index)
                if known is not None and known != _pack(state.descriptor):
                    self._report(
                        range_id, f"n{number} starts at {index} with a descriptor of another index"
                    )
                self._count(number, engine, state)
            self._find_strays(number, engine, states)
        except errors.CorruptionError:
            return  # Bits were flipped; the store is about to find out.

    def _count(self, number: int, engine: MemoryEngine, state: RangeState) -> None:
        descriptor = state.descriptor
        counted = statistics.count(EngineReader(engine), descriptor.start, descriptor.end)
        if counted != state.applied.stats:
            self._report(
                descriptor.range_id,
                f"n{number} starts at {state.applied.index} with other rows than it applied",
            )

    def _find_strays(self, number: int, engine: MemoryEngine, states: list[RangeState]) -> None:
        spans = sorted((s.descriptor.start, s.descriptor.end) for s in states)
        for prefix in layout.BY_KEY:
            gaps = zip([b"", *(end for _, end in spans)], [s for s, _ in spans], strict=False)
            for low, high in [*gaps, (spans[-1][1] if spans else b"", b"\xff")]:
                if low < high:
                    start, end = layout.span(prefix, low, high)
                    if (stray := engine.first(start, end, engine.data)) is not None:
                        self._report(
                            RangeId(0), f"n{number} starts with {stray[0]!r}, which is of no range"
                        )
