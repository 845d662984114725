"""A node's status as the command line shows it, and what of it is a reason to worry.

What nodes tell of themselves is read here into structs that name only what is shown, with a default
for all of it: nodes of other versions may tell less, or more.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

_OFFSET_WORRIES_PERCENT = 50
"""A clock that is further off than this share of what is allowed is worth a remark."""


class OffsetReport(msgspec.Struct, frozen=True):
    """A peer's clock is at least `low_us` ahead of the node's and at most `high_us`."""

    low_us: int = 0
    high_us: int | None = None


class PeerReport(msgspec.Struct, frozen=True):
    """What passes between a node and one that it knows, or itself; see liveness/heartbeats.py."""

    node_id: int = 0
    support_for: int = 0
    support_from: int = 0
    support_until: int = 0
    offset: OffsetReport | None = None


class LivenessReport(msgspec.Struct, frozen=True):
    """The support that a node gives and gets."""

    peers: tuple[PeerReport, ...] = ()


class SnapshotReport(msgspec.Struct, frozen=True):
    """How sending snapshots went."""

    failed: int = 0
    last_failure: str = ""


class StoreReport(msgspec.Struct, frozen=True):
    """See ranges/store_status.py."""

    takes_part: bool = True
    clock: int = 0
    replicas: int = 0
    leaders: int = 0
    requests: int = 0
    syncs: int = 0
    write_refusal: str = ""
    snapshots: SnapshotReport = SnapshotReport()
    liveness: LivenessReport = LivenessReport()


class EngineReport(msgspec.Struct, frozen=True):
    """See storage/rocks.py."""

    failure: str = ""


class SharedHostReport(msgspec.Struct, frozen=True):
    """See cluster/placement.py."""

    host: str = ""
    nodes: tuple[int, ...] = ()
    ranges: int = 0
    first_range: int = 0
    reason: str = ""


class ReplicationReport(msgspec.Struct, frozen=True):
    """See cluster/replicate_queue.py."""

    last_problem: str = ""
    shared_hosts: tuple[SharedHostReport, ...] = ()


class GarbageReport(msgspec.Struct, frozen=True):
    """See cluster/garbage_queue.py."""

    ttl_s: float = 0.0
    problem: str = ""


class NodeReport(msgspec.Struct, frozen=True):
    """See cluster/node_status.py."""

    node_id: int = 0
    version: str = ""
    uptime_s: float = 0.0
    memory_bytes: int = 0
    free_disk_bytes: int = 0
    clock_offset_us_max: int = 0
    store: StoreReport = StoreReport()
    engine: EngineReport | None = None
    replication: ReplicationReport = ReplicationReport()
    garbage: GarbageReport = GarbageReport()


def read(status: dict[str, Any]) -> NodeReport:
    """Return what is shown of a status."""
    return msgspec.convert(status, NodeReport)


def supporters(report: NodeReport) -> list[int]:
    """Return the other nodes whose support lets the node lead."""
    return [
        peer.node_id
        for peer in _peers(report)
        if peer.support_from and peer.support_until > report.store.clock
    ]


def problems(report: NodeReport) -> Iterator[str]:
    """Yield what is wrong with a node, worst first."""
    store = report.store
    if report.engine is not None and report.engine.failure:
        yield f"the store failed: {report.engine.failure}"
    if not store.takes_part:
        yield "it waits for its clock to pass what it promised before it was started"
    if store.write_refusal:
        yield f"writes are refused: {store.write_refusal}"
    supported_by = supporters(report)
    silent = [peer.node_id for peer in _peers(report) if peer.node_id not in supported_by]
    if silent:
        yield f"no support from {', '.join(f'n{node_id}' for node_id in silent)}"
    for peer in _peers(report):
        if peer.offset is not None:
            yield from _clock_problems(peer.node_id, peer.offset, report.clock_offset_us_max)
    if store.snapshots.failed:
        yield f"{store.snapshots.failed} failed snapshots, the last: {store.snapshots.last_failure}"
    if report.replication.last_problem:
        yield f"the last change of replicas to fail: {report.replication.last_problem}"
    for shared in report.replication.shared_hosts:
        yield _placement_problem(shared)
    if report.garbage.problem:
        yield f"garbage cannot be collected: {report.garbage.problem}"


def _peers(report: NodeReport) -> list[PeerReport]:
    return [peer for peer in report.store.liveness.peers if peer.node_id != report.node_id]


def _placement_problem(shared: SharedHostReport) -> str:
    ranges, has = f"r{shared.first_range}", "has"
    if shared.ranges > 1:
        ranges, has = f"{shared.ranges} ranges, such as {ranges},", "have"
    nodes = ", ".join(f"n{node_id}" for node_id in shared.nodes)
    return f"{ranges} {has} replicas on {nodes}, all of {shared.host}: {shared.reason}"


def _clock_problems(node_id: int, offset: OffsetReport, allowed_us: int) -> Iterator[str]:
    worrying_us = allowed_us * _OFFSET_WORRIES_PERCENT // 100
    allowed = f"{allowed_us / 1_000:,.0f} ms are allowed"
    if offset.low_us > worrying_us:
        yield f"n{node_id}'s clock is {offset.low_us / 1_000:,.0f} ms or more ahead; {allowed}"
    if offset.high_us is not None and -offset.high_us > worrying_us:
        yield f"n{node_id}'s clock is {-offset.high_us / 1_000:,.0f} ms or more behind; {allowed}"


def show_duration(seconds: float) -> str:
    """Return how long something has run, in its two largest units."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (left, "s")]
    while len(units) > 2 and not units[0][0]:
        del units[0]
    return " ".join(f"{number}{unit}" for number, unit in units[:2] if number or unit == "s")
