"""Requests handed to a store of a test cluster, past client and network, and what it answers."""

from collections.abc import Sequence

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import hlc, keys
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Get,
    GetResult,
    IncrementResult,
    Operation,
    Put,
    Scan,
    ScanResult,
)
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member

MARGIN = hlc.from_ms(250)


def plain(key: bytes) -> bytes:
    """Return a key as an application's put writes it."""
    return keys.PLAIN + key


def get(key: bytes) -> Get:
    """Read one of the application's keys."""
    return Get(plain(key))


def put(key: bytes, value: bytes) -> Put:
    """Set one of the application's keys."""
    return Put(plain(key), value)


def scan(start: bytes, end: bytes) -> Scan:
    """Read some of the application's keys."""
    return Scan(plain(start), plain(end))


class Asked:
    """One request that a store was given, and its answer once there is one."""

    def __init__(self, member: Member, request: BatchRequest) -> None:
        self.member = member
        self.request = request
        self.replies: list[BatchReply] = []
        member.up.store.submit(request, self.replies.append)

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        assert len(self.replies) <= 1, "a request is answered once"
        return bool(self.replies)

    @property
    def reply(self) -> BatchReply:
        """The answer, good or bad."""
        assert self.is_answered, "there is no answer yet"
        return self.replies[0]

    @property
    def code(self) -> str:
        """The code of the error that is the answer; empty if it is a good one."""
        return "" if self.reply.error is None else self.reply.error.code

    @property
    def value(self) -> bytes | None:
        """What a get found."""
        assert self.reply.error is None, self.reply.error
        result = self.reply.results[0]
        assert isinstance(result, GetResult), "a get was asked"
        return result.value

    @property
    def number(self) -> int:
        """What an increment led to."""
        assert self.reply.error is None, self.reply.error
        result = self.reply.results[0]
        assert isinstance(result, IncrementResult), "an increment was asked"
        return result.value

    @property
    def rows(self) -> tuple[bytes, ...]:
        """What a scan found."""
        assert self.reply.error is None, self.reply.error
        result = self.reply.results[0]
        assert isinstance(result, ScanResult), "a scan was asked"
        return result.rows


def now_of(member: Member) -> Timestamp:
    """Return the greatest time that a node has shown or heard of, without moving its clock."""
    return member.up.store.context.hlc.last


def ask(
    cluster: Cluster,
    member: Member,
    *operations: Operation,
    id: bytes | None = None,
    attempt: int = 1,
    issued_at: int | None = None,
    timestamp: int = 0,
    range_id: int = USER_RANGE_ID,
) -> Asked:
    """Give a node's store a request. Without `issued_at` it is dated as a client does."""
    if issued_at is None:
        issued_at = now_of(member) - MARGIN
    return Asked(
        member,
        BatchRequest(
            RangeId(range_id),
            operations,
            cluster.random.randbytes(16) if id is None else id,
            attempt,
            Timestamp(issued_at),
            Timestamp(timestamp),
        ),
    )


def error_of(replies: Sequence[BatchReply]) -> errors.MultiraftError:
    """Return the error that is the one answer."""
    (reply,) = replies
    assert reply.error is not None, "it was refused"
    return errors.from_wire(reply.error)


async def answered(cluster: Cluster, *asked: Asked, within_s: float = 10.0) -> None:
    """Wait until all of them are answered."""
    await cluster.until(lambda: all(a.is_answered for a in asked), within_s=within_s, step_s=0.001)


def leader_of(cluster: Cluster, range_id: int = USER_RANGE_ID) -> Member:
    """Return the node that serves the range."""
    leader = cluster.leader(range_id)
    assert leader is not None, f"r{range_id} is served"
    return leader


def holder_of(member: Member, range_id: int = USER_RANGE_ID) -> Leaseholder:
    """Return a leader's leaseholder."""
    holder = member.replica(range_id).leaseholder
    assert holder is not None, f"{member.name} leads r{range_id}"
    return holder


def codes(asked: Sequence[Asked]) -> list[str]:
    """Return the codes of all answers."""
    return [each.code for each in asked]


async def move(cluster: Cluster, db: Database, target: Member) -> None:
    """Hand the range that users' keys are in to another node, and wait until it serves there.

    A node that has just started lacks the support to campaign, and another one takes over instead.
    """
    while cluster.leader() is not target:
        await db.admin.transfer(USER_RANGE_ID, NodeId(target.number))
        await cluster.until(lambda: cluster.leader() is not None)


def heal(cluster: Cluster) -> None:
    """Undo every cut between two nodes."""
    for one in cluster.members.values():
        for other in cluster.members.values():
            cluster.network.heal(one.name, other.name)
