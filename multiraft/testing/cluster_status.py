"""What a cluster in a test tells of itself, and how it answers a test that asks wrongly."""

from typing import Literal

import msgspec

from multiraft.ids import RangeId

NodeState = Literal["up", "paused", "down"]


class MisuseError(Exception):
    """A test asked for what makes no sense; the message says what would. Recovery: fix the test."""


class NodeStatus(msgspec.Struct, frozen=True):
    """One node."""

    number: int
    address: str
    state: NodeState
    clock_offset_s: float
    """How far its wall clock is ahead of the true time, negative if behind."""
    leads: tuple[RangeId, ...]
    """The ranges it serves."""
    locality: str = ""
    """Where it is; empty if nobody has told."""


class RangeStatus(msgspec.Struct, frozen=True):
    """One range, as the newest of its replicas on running nodes describes it."""

    range_id: RangeId
    start: bytes
    """In the whole keyspace, where an application's keys begin with a byte of their own."""
    end: bytes
    leader: int | None
    """The number of the node that serves it."""
    replicas: tuple[int, ...] = ()
    """The numbers of the nodes that keep it."""


class ClusterStatus(msgspec.Struct, frozen=True):
    """All of it at one moment."""

    nodes: tuple[NodeStatus, ...]
    ranges: tuple[RangeStatus, ...]
    cuts: tuple[tuple[str, str], ...]
    """Directions (from, to) in which nothing gets through, by name, as of `partition`."""
    time_s: float
    """The loop's time."""
