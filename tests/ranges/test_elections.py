"""Who has an election now, who waits in line, and who goes first."""

import asyncio
from collections.abc import Callable

import pytest

from multiraft.ranges import elections
from multiraft.ranges.elections import STAY_TICKS_MAX, Elections, ElectionsStatus
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from tests.support.virtual_time import on_virtual_time

AT_MOST = 2


class Core:
    """As much of a Raft core as elections see."""

    def __init__(self) -> None:
        self.waits_for_election = True
        self.election_held = False
        self.election_urged = False

    def hold_election(self) -> None:
        self.election_held = True


class Holder:
    """A leaseholder."""

    serving = False


class Range:
    """A replica without a leader."""

    def __init__(self, range_id: int, begun: list[int]) -> None:
        self.range_id = range_id
        self.core = Core()
        self.leaseholder: Holder | None = None
        self.is_supported = True
        self._begun = begun

    def resume_election(self) -> bool:
        self._begun.append(self.range_id)
        self.core.election_held = self.core.election_urged = False
        return self.is_supported


class Scene:
    """Elections of so many ranges, each of which has been ticked once."""

    def __init__(self, count: int) -> None:
        self.begun: list[int] = []
        """Who was taken from the line, in order."""
        self.elections = Elections(SeededRng(1), self._call)
        self.ranges = [Range(range_id, self.begun) for range_id in range(count)]
        self.tick(*self.ranges)

    def _call(self, action: Callable[[], None]) -> None:
        action()

    def tick(self, *ranges: Range) -> None:
        for each in ranges:
            self.elections.tick(each)  # type: ignore[arg-type]

    def follow(self, each: Range) -> None:
        self.elections.follow(each)  # type: ignore[arg-type]

    def ask_for(self, each: Range) -> None:
        self.elections.ask_for(each)  # type: ignore[arg-type]

    def elected(self, each: Range) -> None:
        each.core.waits_for_election = False
        self.follow(each)

    def waiting(self) -> list[Range]:
        return [each for each in self.ranges if each.core.election_held]


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elections, "UNDER_WAY_MAX", AT_MOST)


@on_virtual_time
async def test_others_wait_until_an_election_is_over(loop: VirtualLoop) -> None:
    scene = Scene(4)
    assert scene.waiting() == scene.ranges[AT_MOST:]
    assert scene.elections.status() == ElectionsStatus(2, 2)
    await asyncio.sleep(1)
    assert not scene.begun
    scene.elected(scene.ranges[0])
    await asyncio.sleep(0)
    assert len(scene.begun) == 1
    assert scene.elections.status() == ElectionsStatus(2, 1)


@on_virtual_time
async def test_an_election_won_here_is_over_when_the_leader_serves(loop: VirtualLoop) -> None:
    scene = Scene(3)
    winner = scene.ranges[0]
    winner.leaseholder = Holder()
    scene.elected(winner)
    await asyncio.sleep(1)
    assert not scene.begun
    winner.leaseholder.serving = True
    scene.follow(winner)
    await asyncio.sleep(0)
    assert scene.begun == [2]


@on_virtual_time
async def test_who_is_asked_for_goes_first_and_need_not_wait_for_others(loop: VirtualLoop) -> None:
    scene = Scene(20)
    for number in (11, 7, 5):
        scene.ask_for(scene.ranges[number])
    await asyncio.sleep(0)
    assert scene.begun == [11, 7], "as many again as without being asked for"
    scene.elected(scene.ranges[0])
    await asyncio.sleep(1)
    assert scene.begun == [11, 7, 5]
    scene.elected(scene.ranges[11])
    scene.elected(scene.ranges[7])
    await asyncio.sleep(1)
    assert scene.begun == [11, 7, 5], "others only if few are under way"
    scene.elected(scene.ranges[5])
    await asyncio.sleep(1)
    assert len(scene.begun) == 4


@on_virtual_time
async def test_who_alone_can_win_is_urged_to_the_front(loop: VirtualLoop) -> None:
    scene = Scene(20)
    urged = scene.ranges[13]
    urged.core.election_urged = True
    scene.follow(urged)
    await asyncio.sleep(0)
    assert scene.begun == [13]


@on_virtual_time
async def test_who_finds_a_leader_while_it_waits_leaves_the_line(loop: VirtualLoop) -> None:
    scene = Scene(4)
    lucky = scene.ranges[3]
    scene.ask_for(lucky)
    scene.elected(lucky)
    assert not lucky.core.election_held
    for each in scene.ranges[:AT_MOST]:
        scene.elected(each)
    await asyncio.sleep(1)
    assert scene.begun == [2]
    assert scene.elections.status() == ElectionsStatus(1, 0)


@on_virtual_time
async def test_who_takes_long_gives_way_and_gets_in_line_again(loop: VirtualLoop) -> None:
    scene = Scene(3)
    slow, other, third = scene.ranges
    for _ in range(STAY_TICKS_MAX):
        scene.tick(slow)
    assert not slow.core.election_held
    scene.tick(slow)
    assert slow.core.election_held
    await asyncio.sleep(0)
    assert len(scene.begun) == 1
    scene.elected(other)
    await asyncio.sleep(0)
    assert sorted(scene.begun) == [slow.range_id, third.range_id]


@on_virtual_time
async def test_a_leader_that_cannot_commit_gives_way_too(loop: VirtualLoop) -> None:
    scene = Scene(3)
    stuck = scene.ranges[0]
    stuck.leaseholder = Holder()
    stuck.core.waits_for_election = False
    for _ in range(STAY_TICKS_MAX + 1):
        scene.tick(stuck)
    await asyncio.sleep(0)
    assert scene.begun == [2]
    assert not stuck.core.election_held


@on_virtual_time
async def test_nobody_gives_way_while_nobody_waits(loop: VirtualLoop) -> None:
    scene = Scene(AT_MOST)
    for _ in range(3 * STAY_TICKS_MAX):
        scene.tick(*scene.ranges)
    assert not scene.waiting()


@on_virtual_time
async def test_who_has_no_quorum_of_stores_does_not_keep_others_waiting(loop: VirtualLoop) -> None:
    scene = Scene(30)
    for each in scene.ranges:
        each.is_supported = each.range_id == 29
    scene.elected(scene.ranges[0])
    await asyncio.sleep(1)
    assert 29 in scene.begun
    assert scene.elections.status() == ElectionsStatus(2, 28 - len(scene.begun))


@on_virtual_time
async def test_who_is_destroyed_is_forgotten_in_line_and_out_of_it(loop: VirtualLoop) -> None:
    scene = Scene(4)
    scene.elections.forget(scene.ranges[2])  # type: ignore[arg-type]
    scene.elections.forget(scene.ranges[0])  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert scene.begun == [3]
    assert scene.elections.status() == ElectionsStatus(2, 0)
