"""A cluster's ranges and nodes as the command line shows and measures them.

What replicas report about themselves is read here into one struct, so that tables, the benchmark
and the demo count the same things.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from multiraft.cli import keytext
from multiraft.client.admin import RangeInfo
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId
from multiraft.model import keys


class ReplicaReport(msgspec.Struct, frozen=True):
    """The part of a replica's status that is used here; see ranges/replica_status.py."""

    commit_index: int = 0
    applied_index: int = 0
    live_keys: int = 0
    live_bytes: int = 0
    requests_served: int = 0
    snapshots_sent: int = 0
    versions: int = 0
    gc_threshold: int = 0


class RangeView(msgspec.Struct, frozen=True):
    """One range. `report` is its leader's, or another replica's, or None if none answered."""

    range_id: RangeId
    start: bytes
    end: bytes
    generation: int
    replicas: tuple[NodeId, ...]
    leader: NodeId | None
    report: ReplicaReport | None


async def ranges(database: Database) -> list[RangeView]:
    """Return all ranges in key order."""
    return [_view(info) for info in await database.admin.ranges()]


def _view(info: RangeInfo) -> RangeView:
    descriptor = info.descriptor
    report = None if info.status is None else msgspec.convert(info.status, ReplicaReport)
    return RangeView(
        range_id=descriptor.range_id,
        start=descriptor.start,
        end=descriptor.end,
        generation=descriptor.generation,
        replicas=tuple(replica.node_id for replica in descriptor.replicas),
        leader=info.leader,
        report=report,
    )


def requests_per_second(
    before: Sequence[RangeView], after: Sequence[RangeView], seconds: float
) -> dict[RangeId, float]:
    """Return how busy each range was between two looks at it.

    A leader counts from when it became leader, so a range that changed hands starts again at 0.
    """
    served = {view.range_id: view.report.requests_served for view in before if view.report}
    rates = {}
    for view in after:
        if view.report is not None:
            earlier = served.get(view.range_id, 0)
            now = view.report.requests_served
            rates[view.range_id] = (now - earlier if now >= earlier else now) / seconds
    return rates


async def snapshots_sent(database: Database) -> int:
    """Return how many Raft snapshots the present leaders have sent."""
    return sum(view.report.snapshots_sent for view in await ranges(database) if view.report)


async def entries_behind(database: Database, node_id: NodeId) -> int | None:
    """Return how many committed entries a node's replicas have yet to apply; None if silent."""
    views = [view for view in await ranges(database) if node_id in view.replicas]
    reports = await asyncio.gather(
        *(database.admin.replica_status(view.range_id, node_id) for view in views)
    )
    behind = 0
    for view, status in zip(views, reports, strict=True):
        if status is None or view.report is None:
            return None
        applied = msgspec.convert(status, ReplicaReport).applied_index
        behind += max(0, view.report.commit_index - applied)
    return behind


def show_boundary(key: bytes) -> str:
    """Return where a range begins or ends as people read it: user keys as they would type them."""
    if key.startswith(keys.PLAIN) and key != keys.PLAIN:
        return keytext.show(key[len(keys.PLAIN) :])
    return {keys.MIN: "(system)", keys.PLAIN: "(first)", keys.END: "(last)"}.get(
        key, keys.pretty(key)
    )
