"""Each fault does what its name says, while it lasts, and nothing after it."""

import asyncio
import random

import msgspec
import pytest

from multiraft import errors
from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import Fault
from multiraft.testing.faults.clocks import ClockJump, ClockOffset, CoarseClock
from multiraft.testing.faults.cuts import Bridge, Isolate, OneWayCut, Partition, Reset, Ring
from multiraft.testing.faults.disks import (
    BitRot,
    FullDisk,
    PowerCut,
    StalledSyncs,
    SyncError,
    WriteError,
)
from multiraft.testing.faults.freezes import Freeze, FreezeTwo
from multiraft.testing.faults.kill_at_step import KillAtStep, Moment
from multiraft.testing.faults.kills import KillAll, KillHost, KillLeader, KillMajority, KillMinority
from multiraft.testing.faults.links import Loss, SlowLinks
from multiraft.testing.faults.operations import ChangeReplicas, Split, Transfer
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.hurting import hurt_test, is_off, nobody_is_hurt

JUST_BEGUN_S = 0.05


def begin(fault: Fault, target: SimulatedTarget, rng: random.Random) -> asyncio.Task[None]:
    return asyncio.ensure_future(fault.episode(target, rng))


async def write_on(target: SimulatedTarget) -> None:
    """Keep the disks at work."""
    while True:
        try:
            await target.db.put(b"busy", b"v", deadline_s=0.5)
        except (errors.DeadlineExceededError, errors.OutcomeUnknownError, errors.DiskFullError):
            continue


def down(cluster: Cluster) -> int:
    return len(cluster.members) - len(cluster.running())


def cut_ways(cluster: Cluster) -> list[tuple[str, str]]:
    names = [member.name for member in cluster.members.values()]
    return [(a, b) for a in names for b in names if a != b and cluster.network.is_cut(a, b)]


@pytest.mark.parametrize(
    ("fault", "count"),
    [(KillMinority(), 2), (KillMajority(), 3), (KillAll(), 5)],
    ids=["minority", "majority", "all"],
)
def test_so_many_die_at_one_instant(fault: Fault, count: int) -> None:
    @hurt_test(nodes=5)
    async def killed(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        episode = begin(fault, target, rng)
        await asyncio.sleep(0)
        assert down(cluster) == count
        await episode

    killed()


@hurt_test(nodes=4, localities=["host=a", "host=b", "host=a", "host=b"])
async def test_the_nodes_of_a_host_die_at_one_instant(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(KillHost(), target, rng)
    await asyncio.sleep(0)
    dead = [number for number, member in cluster.members.items() if member.node is None]
    assert dead in ([1, 3], [2, 4])
    await episode


@hurt_test()
async def test_the_leader_is_the_one_that_dies(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    leaders = {cluster.leader(range_id) for range_id in cluster.range_ids()}
    episode = begin(KillLeader(), target, rng)
    await asyncio.sleep(0)
    assert [m for m in leaders if m is not None and m.node is None]
    await episode


@pytest.mark.parametrize("moment", ["written", "synced"])
def test_a_power_cut_is_aimed_at_the_moment(moment: Moment) -> None:
    @hurt_test()
    async def aimed(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        seen: list[int] = []
        original = cluster.kill

        def kill(number: int, *, keep: int | None = None) -> None:
            seen.append(cluster.members[number].engine.unsynced_count)
            original(number, keep=keep)

        cluster.kill = kill  # type: ignore[method-assign]
        busy = asyncio.ensure_future(write_on(target))
        await KillAtStep(moments=(moment,)).episode(target, rng)
        busy.cancel()
        assert len(seen) == 1, "it died once"
        assert moment == "synced" or seen[0] > 0, "something was not durable"

    aimed()


@hurt_test()
async def test_frozen_nodes_run_nothing_and_a_frozen_majority_serves_nothing(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(FreezeTwo(frozen_s=(2.0, 2.0), long_s=(2.0, 2.0)), target, rng)
    await asyncio.sleep(JUST_BEGUN_S)
    frozen = [m for m in cluster.members.values() if cluster.is_frozen(m.number)]
    assert len(frozen) == 2
    written = [member.engine.synced_count for member in frozen]
    with pytest.raises((errors.DeadlineExceededError, errors.OutcomeUnknownError)):
        await target.db.put(b"k", b"v", deadline_s=0.5)
    assert [member.engine.synced_count for member in frozen] == written
    await episode
    await target.db.put(b"k", b"v")


@hurt_test()
async def test_a_node_that_two_have_frozen_thaws_when_both_have_thawed_it(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    for _ in range(2):
        await target.freeze(1)
    await target.thaw(1)
    assert cluster.is_frozen(1)
    assert cut_ways(cluster)
    await target.thaw(1)
    await target.thaw(1)
    assert nobody_is_hurt(cluster)


@hurt_test()
async def test_a_node_that_is_killed_while_it_is_frozen_starts_unfrozen(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(Freeze(frozen_s=(2.0, 2.0), long_s=(2.0, 2.0)), target, rng)
    await asyncio.sleep(JUST_BEGUN_S)
    victim = next(n for n in cluster.members if cluster.is_frozen(n))
    await target.kill(victim)
    await target.start(victim)
    assert nobody_is_hurt(cluster)
    await episode


@hurt_test()
async def test_a_node_may_be_killed_while_it_starts(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    await target.kill(1)
    starting = asyncio.ensure_future(target.start(1))
    await asyncio.sleep(JUST_BEGUN_S)
    assert not starting.done(), "it waits for its clock to pass what it promised"
    await target.kill(1)
    await starting
    assert not target.is_up(1)
    await target.start(1)


@pytest.mark.parametrize(
    ("fault", "ways"),
    [
        (Isolate(), 8),
        (OneWayCut(), 4),
        (Bridge(), 8),
        (Ring(), 10),
    ],
    ids=["isolate", "one-way", "bridge", "ring"],
)
def test_so_many_ways_of_five_nodes_are_cut(fault: Fault, ways: int) -> None:
    @hurt_test(nodes=5)
    async def cut(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        episode = begin(fault, target, rng)
        await asyncio.sleep(JUST_BEGUN_S)
        assert len(cut_ways(cluster)) == ways
        await episode

    cut()


@hurt_test(nodes=5)
async def test_a_partition_separates_two_groups_and_nobody_within_one(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(Partition(), target, rng)
    await asyncio.sleep(JUST_BEGUN_S)
    cut = cut_ways(cluster)
    group = {"n1"} | {f"n{n}" for n in range(2, 6) if ("n1", f"n{n}") not in cut}
    others = {f"n{n}" for n in range(1, 6)} - group
    both = {(a, b) for a in group for b in others}
    assert set(cut) == both | {(b, a) for a, b in both}
    assert both
    await episode


@hurt_test()
async def test_a_reset_breaks_connections_of_exactly_two(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    before = set(cluster.network._ends)
    episode = begin(Reset(), target, rng)
    await asyncio.sleep(0)
    broken = before - set(cluster.network._ends)
    assert broken
    assert len({frozenset((end.source, end.destination)) for end in broken}) == 1
    await episode


@hurt_test()
async def test_slow_and_lossy_links_are_slow_and_lossy(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(Loss(share=(1.0, 1.0), with_clients=False), target, rng)
    await asyncio.sleep(1.0)
    assert cluster.conditions.lost > 0
    await episode
    lost = cluster.conditions.lost
    episode = begin(SlowLinks(delay_s=(9.0, 9.0)), target, rng)
    await asyncio.sleep(0)
    links = [cluster.network.link(f"n{a}", f"n{b}") for a in (1, 2, 3) for b in (1, 2, 3) if a != b]
    assert max(link.delay_s(1) or 0 for link in links) >= 9.0
    await episode
    assert max(link.delay_s(1) or 0 for link in links) < 1.0
    assert cluster.conditions.lost == lost


@hurt_test()
async def test_a_stalled_disk_ends_no_sync_before_the_stall_ends(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(StalledSyncs(lasts_s=(2.0, 2.0)), target, rng)
    await asyncio.sleep(JUST_BEGUN_S)
    (victim,) = [m for m in cluster.members.values() if m.sync_troubles]
    synced = victim.engine.synced_count
    await asyncio.sleep(1.8)
    assert victim.engine.synced_count == synced
    assert victim.engine.unsynced_count > 0
    await episode


@pytest.mark.parametrize(
    "fault",
    [
        WriteError(),
        SyncError(),
        FullDisk(free_bytes=(0, 0)),
        BitRot(values=(500, 500), restart_chance=1.0),
    ],
    ids=["write-error", "sync-error", "full-disk", "bit-rot"],
)
def test_a_store_on_such_a_disk_dies_and_returns(fault: Fault) -> None:
    @hurt_test()
    async def dies(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        told: list[str] = []
        told_to = SimulatedTarget(cluster, target.db, lambda _, detail: told.append(detail))
        busy = asyncio.ensure_future(write_on(target))
        await fault.episode(told_to, rng)
        busy.cancel()
        assert [detail.partition(" ")[2] for detail in told] == ["died of it"]
        assert await target.db.get(b"key3") == b"v"

    dies()


@pytest.mark.parametrize(("keep", "kept"), [("none", 0), ("all", 3)])
def test_a_power_cut_keeps_what_it_says(keep: str, kept: int) -> None:
    @hurt_test()
    async def power(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        member = cluster.members[1]
        engine = member.engine
        for number in range(3):
            batch = engine.new_batch()
            batch.put(b"\xff%d" % number, b"", engine.data)
            engine.write(batch)
        fault = msgspec.convert({"kind": "power-cut", "keep": [keep], "all_chance": 1}, PowerCut)
        episode = begin(fault, target, rng)
        await asyncio.sleep(0)
        found = [member.engine.get(b"\xff%d" % n, member.engine.data) for n in range(3)]
        assert len(found) - found.count(None) == kept
        batch = member.engine.new_batch()
        batch.delete_range(b"\xff", b"\xff\xff", member.engine.data)
        member.engine.write(batch)
        await episode

    power()


@hurt_test()
async def test_a_clock_within_the_bound_stops_nobody_and_is_set_back(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    incarnations = [member.incarnation for member in cluster.members.values()]
    for _ in range(5):
        episode = begin(ClockOffset(), target, rng)
        await asyncio.sleep(JUST_BEGUN_S)
        assert sum(is_off(member.clock) for member in cluster.members.values()) == 1
        await episode
    assert [member.incarnation for member in cluster.members.values()] == incarnations


@hurt_test()
async def test_a_coarse_clock_shows_the_same_time_for_a_while(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    episode = begin(CoarseClock(granularity_ms=(10, 10)), target, rng)
    await asyncio.sleep(JUST_BEGUN_S)
    (wrong,) = [member for member in cluster.members.values() if member.clock_is_wrong]
    assert wrong.clock.wall_us() % 10_000 == 0
    await episode


@pytest.mark.parametrize("restart_chance", [0.0, 1.0], ids=["running", "over a restart"])
@pytest.mark.parametrize("back_chance", [0.0, 1.0], ids=["ahead", "back"])
def test_a_node_whose_clock_jumped_stops_and_returns(
    back_chance: float, restart_chance: float
) -> None:
    @hurt_test()
    async def jumps(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        fault = ClockJump(
            jump_s=(2.0, 2.0),
            back_chance=back_chance,
            restart_chance=restart_chance,
            within_s=10.0,
        )
        episode = begin(fault, target, rng)
        if not restart_chance:
            await cluster.until(lambda: down(cluster) == 1, within_s=10.0)
        await episode
        await target.db.put(b"k", b"v")

    jumps()


@hurt_test()
async def test_a_clock_eight_hours_ahead_costs_its_node_and_nobody_else(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    member = cluster.members[3]
    member.excuses.append("eight hours")
    member.clock.step_wall(8 * 3_600)
    await cluster.until(lambda: member.node is None, within_s=10.0)
    for other in cluster.running():
        ahead_s = other.up.store.context.hlc.now() / 4096 / 1e6 - other.clock.wall_us() / 1e6
        assert ahead_s < 0.25
    await target.db.put(b"k", b"v")
    member.clock.step_wall(-8 * 3_600)
    await target.start(3)
    assert not target.is_up(3), "it would have to wait for hours"
    cluster.members.pop(3)


@hurt_test()
async def test_a_split_a_transfer_and_other_replicas_happen(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    ranges = len(cluster.range_ids())
    await Split().episode(target, rng)
    assert len(cluster.range_ids()) == ranges + 1
    leaders = [cluster.leader(range_id) for range_id in cluster.range_ids()]
    for _ in range(5):
        await Transfer().episode(target, rng)
    assert [cluster.leader(range_id) for range_id in cluster.range_ids()] != leaders
    generations = [cluster.replicas(r)[0].descriptor for r in cluster.range_ids()]
    await ChangeReplicas().episode(target, rng)
    assert [cluster.replicas(r)[0].descriptor for r in cluster.range_ids()] != generations
    for info in await target.db.admin.ranges(with_status=False):
        assert len(info.descriptor.replicas) == 3
