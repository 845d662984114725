"""What the observer notes of a cluster is what happened there."""

from collections import Counter
from functools import cache

from multiraft.ids import RangeId
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import Cluster
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.trace import (
    ConnectionsBroken,
    Crashed,
    Ended,
    Event,
    Frozen,
    Isolated,
    LinkCut,
    LinkHealed,
    MembersChanged,
    MessageLost,
    MessageReceived,
    MessageSent,
    Rejoined,
    RoleChanged,
    Serving,
    Snapshot,
    Split,
    Started,
    Stopped,
    SupportGranted,
    SupportWithdrawn,
    Thawed,
    Trace,
    Violation,
)
from tests.support import traced_run


@cache
def events_of_a_run() -> tuple[Event, ...]:
    trace = Trace(keep=True)
    traced_run.run(1, trace)
    return tuple(trace.events)


def test_a_run_with_faults_shows_everything_that_was_done_to_it() -> None:
    seen = Counter(type(event.what) for event in events_of_a_run())
    done = (Crashed, Frozen, Thawed, LinkCut, LinkHealed, Isolated, Rejoined, ConnectionsBroken)
    assert [seen[kind] for kind in done] == [1] * len(done)
    assert (seen[Started], seen[Stopped]) == (4, 3)
    assert seen[Split] == 6, "two splits, on three nodes each"
    for kind in (RoleChanged, Serving, SupportGranted, SupportWithdrawn, MessageLost, Ended):
        assert seen[kind], kind.__name__
    assert not seen[Violation]


def test_a_message_is_sent_once_and_then_received_or_lost_once_at_most() -> None:
    sent: dict[int, MessageSent] = {}
    over: set[int] = set()
    for event in events_of_a_run():
        what = event.what
        if isinstance(what, MessageSent):
            assert what.message not in sent
            sent[what.message] = what
        elif isinstance(what, MessageReceived | MessageLost):
            assert what.message in sent
            assert what.message not in over
            over.add(what.message)
            if isinstance(what, MessageReceived):
                assert event.node == sent[what.message].target
    assert len(over) > 0.99 * len(sent)


def test_a_term_of_a_range_has_one_leader_and_serves_after_it_was_elected() -> None:
    leaders: dict[tuple[int, int], int] = {}
    served = set()
    for event in events_of_a_run():
        what = event.what
        if isinstance(what, RoleChanged) and what.role == "leader":
            assert leaders.setdefault((what.range, what.term), event.node) == event.node
        elif isinstance(what, Serving):
            assert leaders[what.range, what.term] == event.node
            assert what.lease_end_us > event.t_us
            served.add(what.range)
    assert served == {group for group, _ in leaders}, "whoever was elected had something to serve"


def test_splits_name_the_user_key_and_the_new_range() -> None:
    splits, led = set(), set()
    for event in events_of_a_run():
        if isinstance(event.what, Split):
            splits.add((event.what.key, event.what.right))
        elif isinstance(event.what, RoleChanged) and event.what.role == "leader":
            led.add(event.what.range)
    assert sorted(key for key, _ in splits) == [b"k4", b"k7"]
    assert {right for _, right in splits} <= led


def test_time_never_goes_back() -> None:
    times = [event.t_us for event in events_of_a_run()]
    assert times == sorted(times)


def test_a_dropped_message_is_lost_and_what_must_not_be_said_is_a_violation() -> None:
    trace = Trace(keep=True)

    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop, trace=trace)
        await cluster.start()
        deaf = cluster.followers()[0].number
        cluster.wiretap.drop = lambda source, target, envelope: target == deaf
        async with cluster.connect() as db:
            await db.put(b"k", b"v")
        cluster.wiretap.drop = None
        cluster.invariants.report(RangeId(2), "said twice")
        cluster.invariants.violations.clear()
        await cluster.stop()

    virtual_loop.run(main)
    lost = [e.what for e in trace.events if isinstance(e.what, MessageLost)]
    assert any(what.reason == "the wiretap held it back" for what in lost)
    violations = [event for event in trace.events if isinstance(event.what, Violation)]
    assert [(event.node, event.what) for event in violations] == [(0, Violation("r2: said twice"))]


def test_members_and_snapshots_are_told() -> None:
    trace = Trace(keep=True)

    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop, nodes=4, trace=trace)
        await cluster.start()
        async with cluster.connect() as db:
            await db.put(b"k", b"v")
            descriptor = cluster.range_at(b"k")
            nodes = tuple(r.node_id for r in descriptor.replicas)
            await db.admin.change_replicas(descriptor.range_id, nodes[1:])
            await db.admin.change_replicas(descriptor.range_id, nodes)
            await cluster.until_applied(descriptor.range_id)
        await cluster.stop()

    virtual_loop.run(main)
    whats = [event.what for event in trace.events]
    assert any(isinstance(what, MembersChanged) for what in whats)
    directions = {what.direction for what in whats if isinstance(what, Snapshot)}
    assert directions == {"sent", "installed"}
    assert any(isinstance(what, RoleChanged) and what.role == "gone" for what in whats)
