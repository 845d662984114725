from multiraft.client.cluster_clock import ClusterClock
from multiraft.ids import Timestamp
from multiraft.model import hlc

SECOND_US = 1_000_000


def test_nothing_is_claimed_before_the_first_reply() -> None:
    assert ClusterClock(250).issued_at(5.0) == 0


def test_time_passes_between_replies_less_the_margin() -> None:
    clock = ClusterClock(250)
    clock.observe(hlc.from_us(100 * SECOND_US), 7.0)
    assert hlc.to_us(clock.issued_at(7.0)) == 100 * SECOND_US - 250_000
    later = hlc.to_us(clock.issued_at(8.0))
    assert 100.7 * SECOND_US < later < 100.75 * SECOND_US, "a little slow, never fast"


def test_an_idle_client_with_a_fast_crystal_stays_below_the_cluster() -> None:
    clock = ClusterClock(250)
    clock.observe(hlc.from_us(100 * SECOND_US), 0.0)
    hours_s = 5 * 3_600
    fast_s = hours_s * 1.0005
    assert hlc.to_us(clock.issued_at(fast_s)) < (100 + hours_s) * SECOND_US


def test_an_older_clock_does_not_move_the_estimate_back() -> None:
    clock = ClusterClock(250)
    clock.observe(hlc.from_us(100 * SECOND_US), 0.0)
    clock.observe(hlc.from_us(90 * SECOND_US), 0.0)
    assert hlc.to_us(clock.issued_at(0.0)) == 100 * SECOND_US - 250_000


def test_a_refusal_resets_what_a_fast_node_had_claimed() -> None:
    clock = ClusterClock(250)
    clock.observe(hlc.from_us(900 * SECOND_US), 0.0)
    clock.reset(hlc.from_us(100 * SECOND_US), 1.0)
    assert hlc.to_us(clock.issued_at(1.0)) == 100 * SECOND_US - 250_000


def test_the_logical_part_is_dropped() -> None:
    clock = ClusterClock(0)
    clock.observe(Timestamp(hlc.from_us(100) + 4_000), 0.0)
    assert clock.issued_at(0.0) == hlc.from_us(100)
