from bench.compare.peer import Operation
from bench.compare.series import Spread, series_of, spread
from tests.bench.compare.conftest import Recorded


def test_a_spread_has_the_median_and_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    assert spread([4.0, 1.0]) == Spread(1.0, 2.5, 4.0)
    assert spread([]) is None
    assert Spread(1_000.0, 2_000.4, 3_000.0).told() == "2,000 (1,000..3,000)"


def test_rounds_of_one_peer_operation_and_number_of_callers_belong_together(
    recorded: Recorded,
) -> None:
    found = series_of(
        [
            recorded("etcd", 1, 100),
            recorded("multiraft", 1, 200),
            recorded("etcd", 2, 110),
            recorded("etcd", 1, 900, callers=64),
            recorded("etcd", 1, 50, operation=Operation.GET),
        ]
    )
    assert [(each.peer, each.operation, each.callers) for each in found] == [
        ("etcd", Operation.PUT, 16),
        ("multiraft", Operation.PUT, 16),
        ("etcd", Operation.PUT, 64),
        ("etcd", Operation.GET, 16),
    ]
    assert found[0].rate() == Spread(100.0, 105.0, 110.0)


def test_a_scan_counts_its_rows_and_a_transaction_counts_once(recorded: Recorded) -> None:
    scans, transactions = series_of(
        [
            recorded("etcd", 1, 7, operation=Operation.SCAN_1000),
            recorded("etcd", 1, 7, operation=Operation.TXN),
        ]
    )
    assert scans.rate() == Spread(7_000.0, 7_000.0, 7_000.0)
    assert transactions.rate() == Spread(7.0, 7.0, 7.0)


def test_a_ratio_is_taken_within_each_round(recorded: Recorded) -> None:
    # The second round of both was slowed down by half: the ratio of the rates stays the same.
    ours, etcd = series_of(
        [
            recorded("multiraft", 1, 400),
            recorded("etcd", 1, 200),
            recorded("multiraft", 2, 200),
            recorded("etcd", 2, 100),
            recorded("multiraft", 3, 900),
        ]
    )
    assert ours.ratio_to(etcd) == Spread(2.0, 2.0, 2.0)
    assert etcd.ratio_to(ours) == Spread(0.5, 0.5, 0.5)


def test_processor_time_is_per_request(recorded: Recorded) -> None:
    (found,) = series_of([recorded("etcd", 1, 1_000, server_cpu_s=0.25)])
    assert found.cpu_us(lambda measured: measured.server_cpu_s) == Spread(250.0, 250.0, 250.0)


def test_processor_time_that_is_not_known_is_not_told(recorded: Recorded) -> None:
    unknown, idle = series_of(
        [recorded("etcd", 1, 1_000, server_cpu_s=None), recorded("other", 1, 0)]
    )
    assert unknown.cpu_us(lambda measured: measured.server_cpu_s) is None
    assert idle.cpu_us(lambda measured: measured.server_cpu_s) is None
