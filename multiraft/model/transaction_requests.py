"""What is asked of ranges by transactions, and about them by those whom they stand in the way of.

Every operation names one key and goes to its range; of what concerns a transaction's record that
key is the anchor. `requests.py` has the part that carries them, and the format's rules.
"""

import enum

import msgspec

from multiraft.ids import NodeId, Timestamp
from multiraft.model.transaction import (
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)

OBSERVED_MAX = 64
"""The clocks of so many nodes a request tells at most."""


class TransactionContext(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a request of a transaction says besides its operations."""

    meta: TransactionMeta
    sequence: int = 0
    """Of a part that writes: grows with each time that the transaction writes; see IntentRef."""
    uncertainty_limit: Timestamp = Timestamp(0)
    """Versions above the read timestamp up to here may be older than the transaction (S13)."""
    is_locking: bool = False
    """Gets lock their keys, scans the keys that they find, so that nobody else writes those before
    the transaction has ended."""
    observed: tuple[tuple[NodeId, Timestamp], ...] = ()
    """Observed timestamps: the clock of each node when it first answered the transaction. Of what
    lies above the read timestamp there, what was written later is not older than it (S13)."""


class EndTransaction(msgspec.Struct, frozen=True, array_like=True, tag=30, gc=False):
    """Commit, stage or roll back the transaction of the request. Answered by RecordResult.

    `key` is its anchor. COMMITTED with `one_phase`: the writes of this part are all there are, and
    become versions at once. STAGING: committed as soon as all `writes` lie at or below `timestamp`.
    COMMITTED, ABORTED: decided; `writes` are to be resolved, `locked` keys of this range let go.
    ABORTED ends a transaction that stands STAGING only if it does so at `timestamp`: then its
    coordinator knows that one of the writes lies above that.
    """

    key: bytes
    status: TransactionStatus
    timestamp: Timestamp = Timestamp(0)
    """At which to commit; 0 with `one_phase`: at the request's timestamp, or now."""
    writes: tuple[IntentRef, ...] = ()
    locked: tuple[bytes, ...] = ()
    one_phase: bool = False
    is_movable: bool = False
    """With `one_phase`: everything that was read is named by `read_spans`, in this range."""
    read_spans: tuple[tuple[bytes, bytes], ...] = ()
    reason: str = ""
    """Of ABORTED: why."""


class HeartbeatTransaction(msgspec.Struct, frozen=True, array_like=True, tag=31, gc=False):
    """Say that the transaction of the request lives; `key` is its anchor.

    Answered by RecordResult: who finds itself aborted stops.
    """

    key: bytes


class PushKind(enum.IntEnum):
    """What a pusher wants of the transaction in its way."""

    ABORT = 1
    TIMESTAMP = 2
    """To commit above `push_to`, if it does."""


class WaitsFor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One transaction waits for another: an edge of the wait-for graph."""

    waiter: TransactionMeta
    holder: TransactionMeta
    seen_at: Timestamp = Timestamp(0)
    """When it was last seen to wait, on the clock of the node on which it does."""
    since: Timestamp = Timestamp(0)
    """Since when it has waited, on the same clock; all the time until `seen_at`."""


class PushTransaction(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """Ask for the end of a transaction that is in the way; `key` is its anchor.

    Answered by RecordResult at once, with what the transaction is then: nobody waits at a record.
    It is pushed if it shows no sign of life, if `pusher` has a higher priority, or by `force`.
    """

    key: bytes
    txn: TransactionMeta
    laid_at: Timestamp
    """Of the intent, or lock, that is in the way: a sign of life."""
    issued_at: Timestamp
    """That of its attempt, or later: its record, if it gets one now, is kept until that is past."""
    kind: PushKind
    pusher: TransactionMeta | None = None
    push_to: Timestamp = Timestamp(0)
    force: bool = False
    reason: str = ""
    edges: tuple[WaitsFor, ...] = ()
    """What the pusher knows of the wait-for graph, its own wait included."""


class QueryTransaction(msgspec.Struct, frozen=True, array_like=True, tag=33, gc=False):
    """Ask for a transaction's record and for who waits for it; `key` is its anchor.

    Answered by RecordResult. All that it has written lies above `since`.
    """

    key: bytes
    id: bytes
    since: Timestamp = Timestamp(0)


class RecoverTransaction(msgspec.Struct, frozen=True, array_like=True, tag=34, gc=False):
    """Decide a transaction that was left STAGING at `timestamp`, all its writes being looked at.

    `key` is its anchor. Nothing happens unless it still stands so. Answered by RecordResult.
    """

    key: bytes
    id: bytes
    timestamp: Timestamp
    committed: bool
    since: Timestamp = Timestamp(0)
    """All that the transaction has written lies above."""


class QueryIntent(msgspec.Struct, frozen=True, array_like=True, tag=35, gc=False):
    """Ask whether a write of a transaction lies at or below `timestamp`; if not, it never will.

    Answered by QueryIntentResult.
    """

    key: bytes
    id: bytes
    sequence: int
    timestamp: Timestamp
    since: Timestamp = Timestamp(0)
    """All that the transaction has written lies above."""


class ResolveIntent(msgspec.Struct, frozen=True, array_like=True, tag=36, gc=False):
    """Do with a lock what its transaction's end means: COMMITTED at `timestamp`, or ABORTED.

    Nothing happens if the transaction holds no lock on `key`. Answered by PutResult.
    """

    key: bytes
    id: bytes
    status: TransactionStatus
    timestamp: Timestamp = Timestamp(0)


class Refresh(msgspec.Struct, frozen=True, array_like=True, tag=37, gc=False):
    """Ask whether a read at `since` would see the same at the request's timestamp.

    If so, it counts as read then. `[key, end)` is what was read; an empty `end`: only `key`.
    Answered by RefreshResult.
    """

    key: bytes
    end: bytes
    since: Timestamp


class RecordResult(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """How a transaction stands; `record` None: nobody has written one.

    `has_expired`: it has shown no sign of life for longer than it may. `edges`: who waits for it,
    as far as is known where its record is.
    """

    record: TransactionRecord | None
    has_expired: bool = False
    edges: tuple[WaitsFor, ...] = ()


class QueryIntentResult(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Whether the write is there."""

    found: bool


class RefreshResult(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Whether nothing has changed; if something has, at which key.

    With a `resume`, only what lies before it was looked at; the rest has to be asked for.
    """

    succeeded: bool
    conflict: bytes = b""
    resume: bytes = b""
