"""Transactions made of raw requests, past the client: a test decides every step of them."""

from collections.abc import Sequence

from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model.requests import BatchRequest, Delete, Get, Operation, Put
from multiraft.model.transaction import (
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    PushKind,
    PushTransaction,
    QueryTransaction,
    RecordResult,
    ResolveIntent,
    TransactionContext,
)
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.serving import MARGIN, Asked, answered, ask, leader_of, now_of, plain

PENDING, STAGING = TransactionStatus.PENDING, TransactionStatus.STAGING
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED


class Transaction:
    """Keys are the application's; each request goes to the leader of its range as it is then."""

    def __init__(
        self, cluster: Cluster, anchor: bytes = b"", *, priority: int = 0, began: int = 0
    ) -> None:
        self.cluster = cluster
        self.issued_at = Timestamp(now_of(leader_of(cluster)) - MARGIN)
        self.meta = TransactionMeta(
            cluster.random.randbytes(16),
            plain(anchor) if anchor else b"",
            priority,
            Timestamp(began or self.issued_at),
        )
        self.read_at = Timestamp(0)
        self.uncertainty_limit = Timestamp(0)
        self.observed: dict[NodeId, Timestamp] = {}
        self.sequence = 0
        self.laid: dict[bytes, int] = {}
        """The sequence of each key's write."""
        self.laid_at = Timestamp(0)

    @property
    def id(self) -> bytes:
        """The transaction's ID."""
        return self.meta.id

    def member(self, range_id: int = USER_RANGE_ID) -> Member:
        """Return who leads a range now."""
        return leader_of(self.cluster, range_id)

    def send(
        self,
        *operations: Operation,
        range_id: int = USER_RANGE_ID,
        timestamp: int | None = None,
        sequence: int | None = None,
        is_locking: bool = False,
        attempt: int = 1,
    ) -> Asked:
        """Send a part; nothing of this object follows from the answer."""
        context = TransactionContext(
            self.meta,
            self.sequence if sequence is None else sequence,
            self.uncertainty_limit,
            is_locking,
            tuple(self.observed.items()),
        )
        at = self.read_at if timestamp is None else timestamp
        return Asked(
            self.member(range_id),
            BatchRequest(
                RangeId(range_id),
                operations,
                self.id,
                attempt,
                self.issued_at,
                Timestamp(at),
                context,
            ),
        )

    async def do(self, *operations: Operation, range_id: int = USER_RANGE_ID) -> Asked:
        """Send a part, and wait for its answer."""
        asked = self.send(*operations, range_id=range_id)
        await answered(self.cluster, asked)
        return asked

    async def get(
        self, key: bytes, *, range_id: int = USER_RANGE_ID, is_locking: bool = False
    ) -> bytes | None:
        """Read a key; the first read fixes the read timestamp."""
        asked = self.send(Get(plain(key)), range_id=range_id, is_locking=is_locking)
        await answered(self.cluster, asked)
        self.observed.setdefault(asked.member.node_id, asked.reply.clock)
        value = asked.value
        if not self.read_at:
            self.read_at = asked.reply.timestamp
            self.uncertainty_limit = asked.reply.uncertainty_limit
        return value

    def lay(
        self, writes: dict[bytes, bytes | None], *, range_id: int = USER_RANGE_ID, at: int = 0
    ) -> Asked:
        """Lay intents."""
        self.sequence += 1
        self.laid |= dict.fromkeys(writes, self.sequence)
        return self.send(*_writes(writes), range_id=range_id, timestamp=at or self.read_at)

    async def laid_down(
        self, writes: dict[bytes, bytes | None], *, range_id: int = USER_RANGE_ID
    ) -> Timestamp:
        """Lay intents, and return at which timestamp."""
        asked = self.lay(writes, range_id=range_id)
        await answered(self.cluster, asked)
        assert asked.reply.error is None, asked.reply.error
        self.laid_at = max(self.laid_at, asked.reply.timestamp)
        return asked.reply.timestamp

    def one_phase(
        self,
        writes: dict[bytes, bytes | None],
        *,
        read: Sequence[bytes] = (),
        is_movable: bool = False,
        range_id: int = USER_RANGE_ID,
        attempt: int = 1,
    ) -> Asked:
        """Commit all writes in one phase."""
        end = EndTransaction(
            self.meta.anchor,
            COMMITTED,
            one_phase=True,
            is_movable=is_movable,
            read_spans=tuple((plain(key), b"") for key in read),
        )
        return self.send(*_writes(writes), end, range_id=range_id, attempt=attempt)

    @property
    def refs(self) -> tuple[IntentRef, ...]:
        """What was laid, as a record names it."""
        return tuple(IntentRef(plain(key), sequence) for key, sequence in self.laid.items())

    def end(
        self,
        status: TransactionStatus,
        at: int = 0,
        writes: dict[bytes, bytes | None] | None = None,
        *,
        range_id: int = USER_RANGE_ID,
    ) -> Asked:
        """Stage, commit or roll back; with `writes`, lay these in the same part."""
        if writes:
            self.sequence += 1
            self.laid |= dict.fromkeys(writes, self.sequence)
        end = EndTransaction(self.meta.anchor, status, Timestamp(at), self.refs)
        return self.send(*_writes(writes or {}), end, range_id=range_id)

    async def ended(
        self, status: TransactionStatus, at: int = 0, *, range_id: int = USER_RANGE_ID
    ) -> TransactionRecord:
        """End it, and return the record that this led to."""
        asked = self.end(status, at, range_id=range_id)
        await answered(self.cluster, asked)
        return record_of(asked)

    def push(
        self,
        *,
        kind: PushKind = PushKind.ABORT,
        pusher: TransactionMeta | None = None,
        force: bool = False,
        push_to: int = 0,
        range_id: int = USER_RANGE_ID,
        laid_at: int | None = None,
    ) -> Asked:
        """Push it, as somebody who waits for one of its locks."""
        at = now_of(self.member(range_id)) if laid_at is None else laid_at
        operation = PushTransaction(
            self.meta.anchor,
            self.meta,
            Timestamp(at),
            Timestamp(at),
            kind,
            pusher,
            Timestamp(push_to),
            force,
        )
        return ask(self.cluster, self.member(range_id), operation, range_id=range_id)

    def query(self, *, range_id: int = USER_RANGE_ID) -> Asked:
        """Ask for its record."""
        operation = QueryTransaction(self.meta.anchor, self.id)
        return ask(self.cluster, self.member(range_id), operation, issued_at=0, range_id=range_id)

    def resolve(
        self,
        status: TransactionStatus,
        *names: bytes,
        at: int = 0,
        range_id: int = USER_RANGE_ID,
    ) -> Asked:
        """Resolve its intents."""
        operations = [ResolveIntent(plain(n), self.id, status, Timestamp(at)) for n in names]
        return ask(self.cluster, self.member(range_id), *operations, range_id=range_id)


def record_of(asked: Asked) -> TransactionRecord:
    """Return the record that is the last result of an answer."""
    assert asked.reply.error is None, asked.reply.error
    result = asked.reply.results[-1]
    assert isinstance(result, RecordResult), "a record was asked for"
    assert result.record is not None, "there is a record"
    return result.record


def _writes(writes: dict[bytes, bytes | None]) -> list[Operation]:
    return [
        Delete(plain(key)) if value is None else Put(plain(key), value)
        for key, value in writes.items()
    ]
