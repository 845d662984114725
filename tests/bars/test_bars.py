"""Each bar with a small count; `make bars` has the full one."""

import pytest

from multiraft.ranges import state
from tests.bars import bar, bit_flips, crash_points, full_disk, hostile_frames, scripted_load
from tests.bars.bar import Bar, Tally
from tests.bars.scripted_load import ScriptedLoad


def count(chosen: Bar, cases: int) -> Tally:
    tally = bar.count(chosen, cases, seed=1)
    assert tally.problems == []
    assert tally.total >= cases
    return tally


def test_power_cuts_lose_nothing_that_was_acknowledged() -> None:
    tally = count(crash_points.BAR, 16)
    assert len(tally.counts) >= 3, "points in several phases of the script"


def test_the_load_does_all_that_a_crash_may_interrupt() -> None:
    async def main(load: ScriptedLoad) -> None:
        load.begin()
        await load.over.wait()
        assert load.refusals == []
        assert load.cluster.snapshots_sent() >= 2
        for range_id in load.cluster.range_ids()[1:]:
            logs = [replica.core.first_index for replica in load.cluster.replicas(range_id)]
            assert min(logs) > state.INITIAL_INDEX + 10, "logs are cut"
        await load.end()

    scripted_load.run(1, main)
    assert len({point.phase for point in crash_points.points(seed=1)}) == 6


def test_flipped_bits_are_noticed_or_do_no_harm() -> None:
    tally = count(bit_flips.BAR, 80)
    for kind in ("tables", "logs", "MANIFEST"):
        assert tally.counts[kind].total() > tally.counts[kind]["no harm"], kind


@pytest.mark.integration
def test_mutated_frames_end_connections_and_nothing_else() -> None:
    tally = count(hostile_frames.BAR, 4_000)
    assert tally.counts["client: values"]["readable"] > 100


def test_full_disks_stop_stores_and_harm_nothing() -> None:
    count(full_disk.BAR, 6)
