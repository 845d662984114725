"""What a client asks of one range, and what it gets back.

A `BatchRequest` is one part: operations on keys of one range, evaluated together and atomically.
The client's router makes parts; the leaseholder of the range evaluates them.

Invariants
    - A part that writes names every key it writes; spans only read (rule S8). So a batch either
      holds scans only, or any mix of the operations on single keys.
    - `id` is the same in every attempt; `attempt` counts them from 1 (rules S7, S12).
    - Inside a transaction a part either reads, or holds only puts, deletes and what ends the
      transaction. What speaks of a transaction from outside names its ID and its anchor.
Format
    Structs are msgpack arrays: fields are only ever appended, tags never reused. Golden tests pin
    both.
"""

from typing import Annotated

import msgspec

from multiraft.errors import ErrorDetail
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushTransaction,
    QueryIntent,
    QueryIntentResult,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
    Refresh,
    RefreshResult,
    ResolveIntent,
    TransactionContext,
)


class Get(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Read one key. Answered by GetResult."""

    key: bytes


class Put(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Set one key. Answered by PutResult."""

    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Remove one key. Answered by DeleteResult."""

    key: bytes


class ConditionalPut(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Set (or, with `value` None, remove) the key if it holds `expected` (None: is absent).

    Answered by ConditionalPutResult. When the condition does not hold, the whole part writes
    nothing.
    """

    key: bytes
    value: bytes | None
    expected: bytes | None


class Increment(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Add to a counter: eight bytes, big-endian, signed; an absent key counts as 0.

    Answered by IncrementResult.
    """

    key: bytes
    delta: int


class Scan(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Read the live keys of `[start, end)`, ascending, or descending when `reverse`.

    At most `limit_keys` keys (0: no limit) and about `limit_bytes` bytes of keys and values (0: the
    server's own limit). The server may end a page early, even without a row: what counts is
    `resume`. Answered by ScanResult.
    """

    start: bytes
    end: bytes
    reverse: bool = False
    limit_keys: int = 0
    limit_bytes: int = 0


class PutMeta(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Write the addressing record at `key` unless a generation at or above is there.

    `value` is a packed RangeDescriptor. Answered by PutResult either way. Sent by stores only.
    """

    key: bytes
    value: bytes
    generation: int


class AdminSplit(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Split the range at `key`, which becomes the start of the right half.

    Answered by AdminResult with both descriptors; also when `key` already is a boundary.
    """

    key: bytes


class AdminTransfer(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Hand the range's leadership to `target`. Answered by AdminResult once it has left."""

    target: NodeId


class AdminChangeReplicas(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Give the range exactly these voters, one per node; `generation` is what the caller saw.

    Adds learners, sends snapshots, and goes through a joint configuration. Answered by AdminResult
    when the new configuration alone is in force.
    """

    voters: tuple[NodeId, ...]
    generation: int


class RangeStatus(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Ask any replica what it knows of the range. Answered by StatusResult."""


class NodeStatus(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """Ask a node, as a request to `NO_RANGE`, what it knows of itself. Answered by StatusResult."""


class RangeLocks(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """Ask the leaseholder who holds locks in its range, and who waits. Answered by StatusResult."""


class AdminProtect(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """Keep what reads at `timestamp` and later see from garbage collection, for so long.

    The same `id` again renews it; with `duration_ms` 0, ends it. Answered by ProtectResult.
    """

    id: bytes
    timestamp: Timestamp
    duration_ms: int
    owner: str = ""
    """Who reads, as people are told."""


PROFILE_MS_MAX = 60_000


class NodeProfile(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """Ask a node, as a request to `NO_RANGE`, what its loop spends the next `duration_ms` on.

    No longer than PROFILE_MS_MAX. Answered by StatusResult when they have passed.
    """

    duration_ms: int


PointOperation = Get | Put | Delete | ConditionalPut | Increment | PutMeta
"""What names one key."""

Operation = (
    Get
    | Put
    | Delete
    | ConditionalPut
    | Increment
    | Scan
    | PutMeta
    | AdminSplit
    | AdminTransfer
    | AdminChangeReplicas
    | RangeStatus
    | NodeStatus
    | RangeLocks
    | EndTransaction
    | HeartbeatTransaction
    | PushTransaction
    | QueryTransaction
    | RecoverTransaction
    | QueryIntent
    | ResolveIntent
    | Refresh
    | AdminProtect
    | NodeProfile
)

WRITES = (Put, Delete, ConditionalPut, Increment, PutMeta)
TRANSACTIONAL = (
    EndTransaction,
    HeartbeatTransaction,
    PushTransaction,
    QueryTransaction,
    RecoverTransaction,
    QueryIntent,
    ResolveIntent,
    Refresh,
)
"""What only transactions ask, and those whom they stand in the way of."""
ADMIN = (
    AdminSplit,
    AdminTransfer,
    AdminChangeReplicas,
    RangeStatus,
    NodeStatus,
    RangeLocks,
    AdminProtect,
    NodeProfile,
)
STATUSES = (RangeStatus, NodeStatus, RangeLocks, NodeProfile)
"""Administrative requests that change nothing and are asked of one node."""
OF_NODES = (NodeStatus, NodeProfile)
"""Those of them that are about a node, whatever range they name."""


class GetResult(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The value, or None for an absent key, and the time of the version (0 when absent)."""

    value: bytes | None
    timestamp: Timestamp


class PutResult(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Done."""


class DeleteResult(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Whether the key was there."""

    existed: bool


class ConditionalPutResult(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Whether the condition held; if not, what the key held instead."""

    succeeded: bool
    actual: bytes | None = None


class IncrementResult(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The counter after the increment."""

    value: int


class ScanResult(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Keys and values in scan order: `rows` alternates key, value, key, value.

    `resume` is None when the span was read to its end. Otherwise a forward scan goes on with
    `start=resume`, a reverse scan with `end=resume`.
    """

    rows: tuple[bytes, ...]
    resume: bytes | None


class AdminResult(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Packed descriptors of the ranges concerned, as they are now."""

    descriptors: tuple[bytes, ...]


class ProtectResult(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Until when the time is protected, on the cluster's clock; 0: it is not, any more."""

    expires: Timestamp


class StatusResult(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """The `status()` that was asked for as JSON: ranges/replica_status.py, cluster/node_status.py.

    Or what was asked for by NodeProfile: cluster/profile.py.
    """

    status: bytes


Result = (
    GetResult
    | PutResult
    | DeleteResult
    | ConditionalPutResult
    | IncrementResult
    | ScanResult
    | RecordResult
    | QueryIntentResult
    | RefreshResult
    | AdminResult
    | StatusResult
    | ProtectResult
)

EMPTY_ID = b""
NO_RANGE = RangeId(0)
"""Whom a request that is for a node, and not for a range, is addressed to."""


class BatchRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One part of a client's request, for one range.

    `id` is 16 bytes for a part that writes, empty for one that reads. `issued_at` is a lower bound
    of the cluster's clock when the request was first issued (rule S12); of a scan, the greatest
    time that its client has been told of. `timestamp` is 0 when the leaseholder is to choose; scans
    that go on over several ranges carry the first part's.
    """

    range_id: RangeId
    operations: tuple[Operation, ...]
    id: bytes = EMPTY_ID
    attempt: int = 1
    issued_at: Timestamp = Timestamp(0)
    timestamp: Timestamp = Timestamp(0)
    txn: TransactionContext | None = None
    """Whose part this is: `id` is that transaction's, and `timestamp` its read timestamp, or of a
    part that writes, the lowest that its writes may take."""
    wait_ms_max: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How long it may wait for locks, if that is less than the range would let it wait; 0 if not.
    Its client does not wait for ever, and wants to be told before that what stood in the way."""


class BatchReply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to a part: a result for each operation in order, or an error and no results.

    `timestamp` is the one the part was read or written at. `clock` is the answering node's HLC.
    `uncertainty_limit` is told when the leaseholder has chosen the timestamp of a transaction's
    reads, or of a scan: up to there, other ranges may have versions that are older than that.
    """

    results: tuple[Result, ...]
    timestamp: Timestamp = Timestamp(0)
    clock: Timestamp = Timestamp(0)
    error: ErrorDetail | None = None
    uncertainty_limit: Timestamp = Timestamp(0)


class RequestFrame(msgspec.Struct, frozen=True, array_like=True):
    """Client to node: everything that became ready in one loop iteration, each with a call ID."""

    calls: tuple[tuple[int, BatchRequest], ...]


class ReplyFrame(msgspec.Struct, frozen=True, array_like=True):
    """Node to client: answers by call ID, in any order."""

    replies: tuple[tuple[int, BatchReply], ...]
