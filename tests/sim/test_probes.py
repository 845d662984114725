"""Every probe can be noticed, and noticing leaves production code as it was."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import Index, RangeId, ReplicaId, Term
from multiraft.raft import messages as raft
from multiraft.raft.core import RaftCore
from multiraft.ranges.messages import Command, GroupEnvelope
from multiraft.sim import loop as virtual_loop
from multiraft.sim import probes, probing
from multiraft.sim.cluster import Cluster
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.probes import PROBES
from multiraft.sim.probing import Called, Probe, Raised, Refused, Said, Watching
from tests.support.cluster import cluster_test

HERE = f"{__name__}:"


class Subject:
    """What is wrapped in these tests."""

    def double(self, number: int, *, fails: bool = False) -> int:
        if fails:
            raise ValueError("as asked")
        return 2 * number

    async def refuse(self) -> None:
        raise errors.OverloadedError(what="it", retry_after_ms=1)


def watch(*seen_by: probing.Observation) -> tuple[Watching, Counter[str]]:
    seen: Counter[str] = Counter()
    made = [Probe(str(number), "", each) for number, each in enumerate(seen_by)]
    return Watching(made, seen), seen


def targets() -> list[str]:
    return [p.seen_by.target for p in PROBES if isinstance(p.seen_by, Called | Raised)]


def test_there_are_enough_probes_and_no_two_have_one_name() -> None:
    assert len(PROBES) >= 60
    assert len({probe.name for probe in PROBES}) == len(PROBES)


@pytest.mark.parametrize("target", sorted({*targets(), probing.REFUSAL}))
def test_every_target_is_a_function(target: str) -> None:
    assert callable(probing.resolve(target)[2])


def test_a_call_is_counted_if_all_looks_hold() -> None:
    target = HERE + "Subject.double"
    watching, seen = watch(
        Called(target),
        Called(target, before=lambda _, number, **__: number > 1),
        Called(target, after=lambda result, *_, **__: result == 4),
        Called(target, before=lambda _, number: number == 1, after=lambda result, *_: result == 4),
    )
    subject = Subject()
    assert [subject.double(1), subject.double(2)] == [2, 4]
    watching.end()
    subject.double(2)
    assert seen == {"0": 2, "1": 1, "2": 1}


def test_what_a_function_raises_passes_and_is_not_counted() -> None:
    watching, seen = watch(Called(HERE + "Subject.double"))
    with pytest.raises(ValueError, match="as asked"):
        Subject().double(1, fails=True)
    watching.end()
    assert not seen


def test_an_error_of_a_coroutine_is_counted_and_passes() -> None:
    target = HERE + "Subject.refuse"
    watching, seen = watch(
        Raised(target, errors.RetryableError), Raised(target, errors.RequestError)
    )
    with pytest.raises(errors.OverloadedError):
        asyncio.run(Subject().refuse())
    watching.end()
    assert seen == {"0": 1}


def test_a_message_is_counted_by_type_and_content() -> None:
    watching, seen = watch(
        Said(raft.RequestVoteReply), Said(raft.RequestVoteReply, lambda reply: reply.granted)
    )
    for message in (
        raft.RequestVoteReply(Term(6), True),
        raft.RequestVoteReply(Term(6), False),
        raft.PreVote(Term(6), Index(1), Term(1)),
    ):
        envelope = GroupEnvelope(RangeId(1), ReplicaId(1), ReplicaId(2), message)
        watching.hear(1, 1, 2, envelope)
    watching.end()
    assert seen == {"0": 2, "1": 1}


def test_functions_kept_in_tables_are_wrapped_there_and_put_back() -> None:
    before = [dict(table) for table in probing.TABLES]
    plain = {target: probing.resolve(target)[2] for target in targets()}
    watching = Watching(PROBES, Counter())
    assert all(probing.resolve(target)[2] is not plain[target] for target in targets())
    assert [dict(table) for table in probing.TABLES] != before
    watching.end()
    assert all(probing.resolve(target)[2] is plain[target] for target in targets())
    assert [dict(table) for table in probing.TABLES] == before


@cluster_test()
async def test_a_refusal_is_counted_by_its_error(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    watching, seen = watch(Refused(errors.NotLeaseholderError), Refused(errors.OverloadedError))
    follower = cluster.followers()[0]
    store = follower.up.store
    store.context.refusal(errors.NotLeaseholderError(range_id=RangeId(2), leaseholder=None))
    watching.end()
    assert seen == {"0": 1}


def test_a_run_with_faults_reaches_what_its_faults_are_for() -> None:
    step = RaftCore.step

    async def main(loop: VirtualLoop) -> dict[str, int]:
        cluster = Cluster(loop)
        with probes.install(cluster) as counts:
            await cluster.start()
            async with cluster.connect() as db:
                await hurt(cluster, db)
            await cluster.stop()
        return counts.seen

    seen: dict[str, Any] = virtual_loop.run(main, limit_s=10_000)
    assert RaftCore.step is step
    reached = {name for name, count in seen.items() if count}
    assert len(seen) == len(PROBES)
    assert reached >= {
        "leader gave up without a quorum",
        "release sent",
        "leadership handed over",
        "first leader led without an election",
        "support withdrawn",
        "start waited for the clock",
        "refused: not leaseholder",
        "conflicting suffix overwritten",
    }, reached


class Nobody:
    """Waits for a proposal, and does not care how it ends."""

    def applied(self) -> None: ...

    def failed(self, error: errors.MultiraftError) -> None: ...


async def hurt(cluster: Cluster, db: Database) -> None:
    """Split, hand over, cut the leader off while it is written to, and crash a node."""
    await db.put(b"k", b"v")
    left, _ = await db.admin.split(b"m")
    leader = cluster.leader()
    assert leader is not None
    other = next(n for n in cluster.members if n != leader.number)
    await db.admin.transfer(left.range_id, cluster.members[other].node_id)
    await cluster.until(lambda: cluster.leader() not in (None, leader))
    await db.put(b"k", b"w")
    alone = cluster.leader()
    assert alone is not None
    holder = alone.replica().leaseholder
    assert holder is not None
    cluster.isolate(alone.number)
    holder.propose(Command(b"never"), Nobody())
    await cluster.until(lambda: cluster.leader() not in (None, alone))
    await db.put(b"k", b"x")
    await cluster.until(lambda: alone.replica().core.leadership is None)
    cluster.rejoin(alone.number)
    await cluster.until_applied()
    await cluster.crash(other)
    await cluster.restart(other)
    await db.put(b"k", b"y")
