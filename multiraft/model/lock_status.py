"""What a leaseholder tells of the locks in its range, and of who waits for them.

The answer to `RangeLocks`, as JSON: to be looked at, and not to decide anything by. Fields may be
added.
"""

import msgspec

from multiraft.ids import NodeId, RangeId, Timestamp


class WaiterStatus(msgspec.Struct, frozen=True):
    """A request that waits."""

    transaction: str
    """In hexadecimal digits; empty outside transactions."""
    anchor: bytes
    priority: int
    age_s: float
    """Since its transaction began, or else since it was issued."""
    waits_s: float
    """At this key, and since the request last came: it leaves after `lock_wait_ms`, and its client
    sends it again, which is not known to be the same wait. `age_s` goes on."""
    began: Timestamp
    """When its transaction did; 0 outside transactions."""
    why: str
    """`reads`: an intent lies at or below what it reads. `writes`, or locks: what another has.
    `follows`: nobody has the key, but another one that waited is about to."""


class LockStatus(msgspec.Struct, frozen=True):
    """A key that is locked, or about to be, and who waits for it: the first in line first."""

    key: bytes
    kind: str
    """`intent`: a write that waits for its transaction. `lock`: not replicated. `claim`: of the one
    that was first in line, and looks at the key just now."""
    transaction: str
    anchor: bytes
    priority: int
    age_s: float
    began: Timestamp
    held_s: float
    """Since it was laid, or laid anew."""
    waiters: tuple[WaiterStatus, ...]


class RangeLocksStatus(msgspec.Struct, frozen=True):
    """The locks of a range as one of its replicas knows them: all that it does, if it leads."""

    range_id: RangeId
    node_id: NodeId
    is_leaseholder: bool
    is_complete: bool = True
    """False: there are more intents than the leaseholder keeps in memory."""
    locks: int = 0
    waiters: int = 0
    keys: tuple[LockStatus, ...] = ()
    """Those that somebody waits for come first, and not all of them if there are very many."""
