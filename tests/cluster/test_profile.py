"""The profile of a node: real stores on virtual time, so counts are exact and times are small."""

import asyncio

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster import profile, stalls
from multiraft.cluster.profile import INSTRUMENTS, PLACES, Beside, Profile, Stage
from multiraft.ids import NodeId
from multiraft.model.requests import PROFILE_MS_MAX
from multiraft.ranges import admin
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

BEGUN_S = 0.01
"""A request for a profile has arrived by then."""


async def profiled(cluster: Cluster, db: Database, puts: int) -> list[Profile]:
    """Profile all nodes for a second, in the middle of which there are so many puts."""
    asked = asyncio.create_task(db.admin.profiles(1.0))
    await asyncio.sleep(BEGUN_S)
    for number in range(puts):
        await db.put(b"k%d" % number, bytes(100))
    return [msgspec.convert(info.profile, Profile) for info in await asked]


@cluster_test()
async def test_a_profile_counts_what_requests_cause(cluster: Cluster, db: Database) -> None:
    leader = cluster.leader()
    assert leader is not None
    found = await profiled(cluster, db, puts=20)
    assert [each.node_id for each in found] == [1, 2, 3]
    [mine] = [each for each in found if each.node_id == leader.number]
    assert mine.requests >= 20
    assert mine.turns >= 20
    assert mine.syncs >= 20
    # Stages are of the process, so of all three nodes.
    stages = {stage.name: stage for stage in mine.stages}
    assert list(stages) == list(Stage)
    # The simulator has these two methods in its own hands.
    assert {name for name in Stage if not stages[name].runs} == {Stage.COLLECT, Stage.WRITE}
    assert stages[Stage.LOG].runs >= 3 * 20
    assert mine.log_bytes == stages[Stage.LOG].bytes_out >= 3 * 20 * 100
    assert stages[Stage.RECEIVE].bytes_in >= 20 * 3 * 100, "from a client and for two followers"
    assert mine.frames == stages[Stage.SEND].runs >= 2 * 20
    assert stages[Stage.SEND].bytes_out >= 2 * 20 * 100
    assert stages[Stage.ANSWER].bytes_out > 0
    assert stages[Stage.EVALUATE].runs >= 20
    beside = {stage.name: stage for stage in mine.beside}
    assert list(beside) == list(Beside)
    assert beside[Beside.SYNC_WAIT].runs >= 3 * 20


@cluster_test()
async def test_the_parts_of_a_profile_add_up(cluster: Cluster, db: Database) -> None:
    for each in await profiled(cluster, db, puts=50):
        parts = sum(stage.us for stage in each.stages) + each.other_us + each.idle_us
        assert parts == pytest.approx(each.elapsed_us, abs=1_000), "two clocks never quite agree"
        assert sum(stage.cpu_us for stage in each.stages) <= each.loop_cpu_us + len(Stage)


class SlowingClock:
    """Each time that it is read, twice as much time has passed as before."""

    def __init__(self) -> None:
        self.passed_s = 1.0

    def monotonic(self) -> float:
        self.passed_s *= 2
        return self.passed_s

    def wall_us(self) -> int:
        return round(self.passed_s * 1e6)


@cluster_test(nodes=1)
async def test_a_profile_tells_when_the_loop_stood_still(cluster: Cluster, db: Database) -> None:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(profile, "_CLOCK", SlowingClock())
        [each] = await profiled(cluster, db, puts=0)
    longest = each.stalls[0]
    assert len(each.stalls) == stalls.KEPT_MAX
    assert longest.at_us == pytest.approx(2 * longest.us, rel=1e-6)
    assert longest.us > each.stalls[1].us


@cluster_test()
async def test_methods_are_as_they_were_once_profiles_have_ended(
    cluster: Cluster, db: Database
) -> None:
    before = [vars(place.owner)[place.method] for place in PLACES]
    asked = asyncio.create_task(db.admin.profiles(1.0))
    await asyncio.sleep(BEGUN_S)
    assert INSTRUMENTS.is_watching
    while_watched = [vars(place.owner)[place.method] for place in PLACES]
    assert all(one is not other for one, other in zip(before, while_watched, strict=True))
    await asked
    assert [vars(place.owner)[place.method] for place in PLACES] == before


@cluster_test()
async def test_a_node_that_stops_takes_its_instruments_along(
    cluster: Cluster, db: Database
) -> None:
    member = cluster.members[2]
    asked = asyncio.create_task(db.admin.profiles(60.0, NodeId(2)))
    await asyncio.sleep(BEGUN_S)
    assert INSTRUMENTS.is_watching
    await member.up.stop()
    assert not INSTRUMENTS.is_watching
    [info] = await asked
    assert info.profile is None


@cluster_test(nodes=1)
async def test_a_profile_may_not_last_for_ever(cluster: Cluster, db: Database) -> None:
    with pytest.raises(errors.RequestError, match="between 1 and 60000 ms"):
        await db.admin.profiles(PROFILE_MS_MAX / 1_000 + 1)


@cluster_test(nodes=1)
async def test_a_node_makes_a_few_profiles_at_once_and_no_more(
    cluster: Cluster, db: Database
) -> None:
    asked = [asyncio.create_task(db.admin.profiles(1.0)) for _ in range(admin.PROFILES_MAX + 2)]
    await asyncio.sleep(BEGUN_S)
    late = [task for task in asked if task.done()]
    assert [info.reason for task in late for info in await task] == [
        "the profiler of n1 has too much work in flight; retry in 20 ms"
    ] * 2
    made = [info.profile for task in asked if task not in late for info in await task]
    assert len(made) == admin.PROFILES_MAX
    assert all(made)
    [info] = await db.admin.profiles(0.01)
    assert info.profile, "the places are free again"


def test_every_stage_has_a_place() -> None:
    with INSTRUMENTS.watched():
        assert set(INSTRUMENTS.read()) == {*Stage, *Beside}
