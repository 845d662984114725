from typing import Any

import pytest

from multiraft.cli import node_view


def peer(node_id: int, *, epoch: int = 1, until: int = 200, **offset: int) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "support_for": 1,
        "support_from": epoch,
        "support_until": until,
        "offset": offset or None,
    }


def status(*peers: dict[str, Any], **store: object) -> dict[str, Any]:
    """What n1 tells, when its clock says 100 and clocks may differ by 250 ms."""
    liveness = {"peers": [peer(1), *peers]}
    return {
        "node_id": 1,
        "clock_offset_us_max": 250_000,
        "store": {"clock": 100, "liveness": liveness} | store,
    }


def problems(told: dict[str, Any]) -> list[str]:
    return list(node_view.problems(node_view.read(told)))


def test_a_node_that_tells_nothing_is_shown_with_defaults() -> None:
    assert node_view.read({}) == node_view.NodeReport()
    assert problems({}) == []


def test_nothing_is_wrong_with_a_node_that_all_others_support() -> None:
    told = status(peer(2, low_us=-900, high_us=400), peer(3))
    assert node_view.supporters(node_view.read(told)) == [2, 3]
    assert problems(told) == []


def test_support_that_ended_or_ran_out_is_missed() -> None:
    told = status(peer(2, epoch=0), peer(3, until=100), peer(4))
    assert node_view.supporters(node_view.read(told)) == [4]
    assert problems(told) == ["no support from n2, n3"]


@pytest.mark.parametrize(
    ("offset", "problem"),
    [
        ({"low_us": 125_000}, []),
        ({"low_us": 126_000}, ["n2's clock is 126 ms or more ahead; 250 ms are allowed"]),
        ({"low_us": -900_000, "high_us": -125_000}, []),
        (
            {"low_us": -900_000, "high_us": -126_000},
            ["n2's clock is 126 ms or more behind; 250 ms are allowed"],
        ),
    ],
)
def test_a_clock_that_is_certainly_off_by_more_than_half_of_what_is_allowed_is_told(
    offset: dict[str, int], problem: list[str]
) -> None:
    assert problems(status(peer(2, **offset))) == problem


def test_ranges_that_share_a_host_are_told_with_the_reason() -> None:
    one = {"host": "host=a", "nodes": [1, 4], "ranges": 1, "first_range": 5, "reason": "why"}
    told = status()
    told["replication"] = {"shared_hosts": [one, one | {"ranges": 3}]}
    assert problems(told) == [
        "r5 has replicas on n1, n4, all of host=a: why",
        "3 ranges, such as r5, have replicas on n1, n4, all of host=a: why",
    ]


def test_the_worst_is_told_first() -> None:
    told = status(
        peer(2, epoch=0),
        takes_part=False,
        write_refusal="full",
        snapshots={"failed": 3, "last_failure": "r2"},
    )
    told["engine"] = {"failure": "EIO"}
    told["replication"] = {"last_problem": "r9: no"}
    assert [problem.split(":")[0] for problem in problems(told)] == [
        "the store failed",
        "it waits for its clock to pass what it promised before it was started",
        "writes are refused",
        "no support from n2",
        "3 failed snapshots, the last",
        "the last change of replicas to fail",
    ]


def test_durations_are_shown_in_two_units() -> None:
    seconds = [0, 59.9, 60, 3_599, 3_600, 86_399, 86_400, 90_000, 10 * 86_400 + 61]
    assert [node_view.show_duration(each) for each in seconds] == [
        "0s",
        "59s",
        "1m 0s",
        "59m 59s",
        "1h",
        "23h 59m",
        "1d",
        "1d 1h",
        "10d",
    ]
