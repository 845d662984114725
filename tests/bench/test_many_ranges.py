from collections.abc import Callable

import pytest
from rich.console import Console

from bench import many_ranges
from bench.many_ranges import Round, Settings
from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
SETTINGS = Settings(64, 16, spread=False, callers=64, rounds=3, seconds=1.0, keys=100)


def rounds(*puts_per_second: float) -> list[Round]:
    return [
        Round(each, 1.0, 9.0, 80.0, 10.0, 0.02, 64 << 20, 1.5, 0.1, 0.5) for each in puts_per_second
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 1_000])
def test_bisecting_comes_to_every_number_once(count: int) -> None:
    assert sorted(many_ranges.bisected(count)) == list(range(count))


def test_bisecting_begins_in_the_middle_of_what_is_left() -> None:
    assert list(many_ranges.bisected(7)) == [3, 1, 5, 0, 2, 4, 6]


def test_leaders_are_spread_in_turn_or_one_leads_all() -> None:
    leaders: Callable[..., list[NodeId]] = many_ranges.leaders_for
    assert leaders(4, (N1, N2, N3), spread=True) == [N1, N2, N3, N1]
    assert leaders(4, (N1, N2, N3), spread=False) == [N1] * 4


@cluster_test()
async def test_idle_ranges_are_made_beside_those_there_are(cluster: Cluster, db: Database) -> None:
    before = len(await db.admin.ranges(with_status=False))
    await many_ranges.make_idle(db, 12)
    await cluster.until_served()
    descriptors = [info.descriptor for info in await db.admin.ranges(with_status=False)]
    assert len(descriptors) == before + 12


@cluster_test()
async def test_ranges_are_waited_for_until_all_are_served(cluster: Cluster, db: Database) -> None:
    ranges = len(await db.admin.ranges(with_status=False))
    assert await many_ranges.until_served(db, ranges) < 1.0
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(many_ranges, "SERVED_S_MAX", 0.0)
        with pytest.raises(TimeoutError):
            await many_ranges.until_served(db, ranges + 1)


def test_rounds_are_compared_one_by_one() -> None:
    assert many_ranges.ratio(rounds(100, 200, 50), rounds(90, 100, 50)) == 0.9


def test_the_table_has_medians_with_least_and_most() -> None:
    out = Console(width=100)
    with out.capture() as captured:
        out.print(many_ranges.table(SETTINGS, rounds(9_000, 10_000, 8_000), rounds(1, 2, 3)))
    text = captured.get()
    assert "64 ranges, 16 busy" in text
    assert "9,000 (8,000 to 10,000)" in text
    assert "2 (1 to 3)" in text
    assert "64 (64 to 64)" in text
