import io

import msgspec
from rich.console import Console

from bench.compare import report
from bench.compare.peer import Operation
from bench.compare.records import Record
from tests.bench.compare.conftest import Recorded


def test_a_table_has_medians_spreads_and_ratios_to_etcd(recorded: Recorded) -> None:
    records = [
        recorded("multiraft", 1, 2_000),
        recorded("etcd", 1, 1_000),
        recorded("multiraft", 2, 4_000),
        recorded("etcd", 2, 1_000, server_cpu_s=None, client_cpu_s=None),
    ]
    (section,) = report.sections(records)
    assert section.title == "puts"
    assert section.columns[2:4] == ("puts/s", "times etcd")
    assert section.rows == [
        (
            *("16", "multiraft", "3,000 (2,000..4,000)", "3.00 (2.00..4.00)", "1.00", "4.0"),
            *("188", "38", "200"),
        ),
        (
            *("16", "etcd", "1,000 (1,000..1,000)", "1.00 (1.00..1.00)", "1.00", "4.0"),
            *("500", "100", "200"),
        ),
    ]


def test_without_etcd_there_are_no_ratios(recorded: Recorded) -> None:
    (section,) = report.sections([recorded("multiraft", 1, 2_000)])
    assert section.rows[0][3] == report.NONE


def test_rows_are_in_order_of_callers_then_of_turns(recorded: Recorded) -> None:
    records = [
        recorded(peer, 1, 100, callers=callers) for peer in ("b", "a") for callers in (64, 1)
    ]
    (section,) = report.sections(records)
    assert [row[:2] for row in section.rows] == [("1", "b"), ("1", "a"), ("64", "b"), ("64", "a")]


def test_an_idle_cluster_is_told_in_cores(recorded: Recorded) -> None:
    record = recorded("etcd", 1, 0, operation=Operation.IDLE, server_cpu_s=0.025)
    (section,) = report.sections([record])
    assert section.rows == [("etcd", "0.025 (0.025..0.025)", "200")]


def test_a_fail_over_is_told_in_milliseconds(recorded: Recorded) -> None:
    records = [
        recorded("etcd", number, 1, operation=Operation.FAILOVER, max_ms=ms, server_cpu_s=None)
        for number, ms in enumerate((1_000.0, 1_700.0, 1_400.0), start=1)
    ]
    (section,) = report.sections(records)
    assert section.rows == [("etcd", "1,400 (1,000..1,700)")]


def test_settings_remarks_and_failures_are_told_once_beside_the_tables(recorded: Recorded) -> None:
    good = recorded("etcd", 1, 100, remark="Not the same.")
    bad = msgspec.structs.replace(good, round=2, measured=None, problem="it broke")
    assert report.remarks([good, good, bad]) == [
        "etcd: version: 1.2",
        "etcd: Not the same.",
        "etcd FAILED: put, 16 callers, round 2: it broke",
    ]


def test_peers_that_are_not_durable_are_marked(recorded: Recorded) -> None:
    records = [recorded("etcd", 1, 100), recorded("nats", 1, 100, is_durable=False)]
    (section,) = report.sections(records)
    assert [row[1] for row in section.rows] == ["etcd", "nats *"]
    assert report.remarks(records)[0].startswith("* NOT DURABLE")
    assert not any("NOT DURABLE" in told for told in report.remarks(records[:1]))


def test_both_renderings_hold_everything(recorded: Recorded) -> None:
    records = [recorded("etcd", 1, 1_000, remark="Not the same.")]
    for text in (report.markdown(records), _printed(records)):
        for part in (
            "2 cores (a processor)",
            "10,000 keys",
            "loads of 1 s, rounds: 1",
            "Not the same.",
            "0.05 (0.05..0.05)",
        ):
            assert part in text
        assert "1,000 (1,000..1,000)" in text


def _printed(records: list[Record]) -> str:
    console = Console(file=io.StringIO(), width=report.WIDTH)
    report.show(records, console)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()
