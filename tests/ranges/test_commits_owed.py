"""A new commit index is told when no append carried it along, or at once where somebody waits."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from multiraft.ids import Index, RangeId
from multiraft.ranges.commits_owed import DELAY_S, CommitsOwed
from multiraft.ranges.replica import Replica
from multiraft.ranges.slices import SLICE_MAX
from multiraft.ranges.turn import Turn
from multiraft.sim.loop import VirtualLoop
from multiraft.storage.memory import MemoryEngine
from tests.support.virtual_time import on_virtual_time

SOON_S = 1.1 * DELAY_S


class Group:
    """What is asked of a replica that leads."""

    def __init__(self, range_id: int, told: list[int]) -> None:
        self.range_id = RangeId(range_id)
        self.destroyed = False
        self.core = SimpleNamespace(commit_index=Index(1), commit_untold=True)
        self._told = told

    def commit(self) -> None:
        """Another entry is committed, and no append follows."""
        self.core.commit_index += 1
        self.core.commit_untold = True

    def tell_commit(self, _turn: Turn) -> None:
        if self.core.commit_untold:
            self.core.commit_untold = False
            self._told.append(self.range_id)


class Owing:
    """Commit indexes that are owed, and turns as soon as somebody asks for one."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.turns = 0
        self.failures: list[Exception] = []
        self._is_scheduled = False
        self.owed = CommitsOwed(self._schedule, self._guard)

    def group(self, range_id: int = 1) -> Group:
        return Group(range_id, self.told)

    def add(self, group: Group) -> None:
        self.owed.add(cast("Replica", group))

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        self.turns += 1
        self.owed.tell(Turn(MemoryEngine().new_batch()))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.failures.append(error)


@on_virtual_time
async def test_what_no_append_carries_is_told_after_a_delay(loop: VirtualLoop) -> None:
    owing = Owing()
    owing.add(owing.group())
    await asyncio.sleep(0.9 * DELAY_S)
    assert owing.told == []
    await asyncio.sleep(0.2 * DELAY_S)
    assert owing.told == [1]


@on_virtual_time
async def test_what_an_append_carried_costs_no_turn(loop: VirtualLoop) -> None:
    owing = Owing()
    group = owing.group()
    owing.add(group)
    group.core.commit_untold = False
    await asyncio.sleep(10 * DELAY_S)
    assert owing.turns == 0


@on_virtual_time
async def test_what_is_newer_than_the_timer_waits_for_an_append_once_more(
    loop: VirtualLoop,
) -> None:
    owing = Owing()
    group = owing.group()
    owing.add(group)
    await asyncio.sleep(0.9 * DELAY_S)
    group.commit()
    await asyncio.sleep(0.2 * DELAY_S)
    assert owing.told == []
    await asyncio.sleep(DELAY_S)
    assert owing.told == [1]


@on_virtual_time
async def test_where_somebody_waits_all_is_told_with_the_next_turn(loop: VirtualLoop) -> None:
    owing = Owing()
    for range_id in (1, 2):
        owing.add(owing.group(range_id))
    owing.owed.tell_soon()
    await asyncio.sleep(0)
    assert owing.told == [1, 2]
    await asyncio.sleep(10 * DELAY_S)
    assert owing.turns == 1


@on_virtual_time
async def test_a_turn_tells_a_slice_and_the_next_one_the_rest(loop: VirtualLoop) -> None:
    owing = Owing()
    for range_id in range(SLICE_MAX + 1):
        owing.add(owing.group(range_id))
    owing.owed.tell_soon()
    await asyncio.sleep(0)
    assert owing.told == list(range(SLICE_MAX))
    await asyncio.sleep(0)
    assert owing.told == list(range(SLICE_MAX + 1))
    assert owing.turns == 2


@on_virtual_time
async def test_a_replica_that_is_gone_tells_nothing(loop: VirtualLoop) -> None:
    owing = Owing()
    gone = owing.group()
    owing.add(gone)
    gone.destroyed = True
    await asyncio.sleep(SOON_S)
    assert (owing.turns, owing.told) == (1, [])


@on_virtual_time
async def test_what_stopped_has_no_timer(loop: VirtualLoop) -> None:
    owing = Owing()
    owing.add(owing.group())
    owing.owed.stop()
    await asyncio.sleep(SOON_S)
    assert owing.turns == 0


@on_virtual_time
async def test_what_the_timer_does_not_expect_reaches_the_guard(loop: VirtualLoop) -> None:
    owing = Owing()
    group = owing.group()
    owing.add(group)
    del group.core.commit_untold
    await asyncio.sleep(SOON_S)
    assert [type(failure) for failure in owing.failures] == [AttributeError]
