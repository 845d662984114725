import pytest

from bench import scale_counts
from bench.scale_counts import Counts, Row

ROW = Row(
    nodes=6,
    ranges=16,
    callers=96,
    puts=1_000,
    busy=Counts(100, 50, 250, 2_000, 7, 640_000),
    busiest_share=0.25,
    idle=Counts(600, 1_200, 3_000, 1, 4_500, 60_000),
    lookups=2,
)


def test_replicas_of_neighbours_overlap_in_a_ring() -> None:
    assert scale_counts.ring(0, 6) == (1, 2, 3)
    assert scale_counts.ring(4, 6) == (5, 6, 1)
    assert scale_counts.ring(2, 3) == (3, 1, 2)


@pytest.mark.parametrize(
    ("ranges", "nodes", "first"),
    [(1, 3, [0]), (4, 3, [0, 1, 2]), (16, 3, [0, 5, 10]), (4, 6, [0, 1, 2, 3])],
)
def test_shares_are_even_and_nobody_has_one_without_ranges(
    ranges: int, nodes: int, first: list[int]
) -> None:
    assert scale_counts.first_ranges(ranges, nodes) == first


def test_counts_are_told_per_put_and_idle_ones_per_node_and_second() -> None:
    *_, line = scale_counts.markdown([ROW])
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["6", "16", "96"]
    assert cells[3:9] == ["0.100", "0.050", "0.250", "2.000", "640", "25 %"]
    assert cells[9:] == ["10.0", "20.0", "50.0", "75.0", "1000", "2"]


def test_a_measurement_spreads_the_load_and_is_the_same_each_time() -> None:
    found = scale_counts.measure(nodes=4, ranges=4)
    assert found.busiest_share == 0.25
    assert found.puts == 4 * scale_counts.CALLERS_PER_NODE * scale_counts.PUTS_EACH
    assert found.busy.syncs > 0
    assert found.idle.group_messages == 0, "idle ranges say nothing"
    assert found == scale_counts.measure(nodes=4, ranges=4)
