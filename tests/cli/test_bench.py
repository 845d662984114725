import pytest

from multiraft import errors
from multiraft.model import keys, requests
from tests.cli.conftest import Terminal
from tests.support.fake_cluster import Plan

SHORT = ("--seconds", "0.1", "--keys", "40", "--value-bytes", "8", "--address", "127.0.0.1:7400")


@pytest.fixture(autouse=True)
def _requests_take_a_millisecond(terminal: Terminal) -> None:
    terminal.cluster.intercept = lambda _node, _request: Plan(request_delay_s=0.001)


def test_rounds_and_ranges_are_reported(terminal: Terminal) -> None:
    found = terminal.run("bench", "--callers", "1,4", "--ranges", "3", "--json", *SHORT).json
    assert [each["callers"] for each in found["rounds"]] == [1, 4]
    for each in found["rounds"]:
        assert each["total"]["requests"] > 0
        assert each["total"]["requests"] == sum(part["requests"] for part in each["per_range"])
        assert each["node_cpu_us_per_request"] is None
        assert each["failures"] == {}
    assert len(found["rounds"][1]["per_range"]) == 3
    boundaries = {each.descriptor.start for each in terminal.cluster.ranges.values()}
    assert {keys.PLAIN + b"multiraft-bench/%04d/00000000" % n for n in range(3)} <= boundaries


def test_a_split_happens_in_the_last_round_only(terminal: Terminal) -> None:
    found = terminal.run("bench", "--callers", "1,4", "--split-at", "0.05", "--json", *SHORT).json
    assert found["rounds"][0]["split"] is None
    split = found["rounds"][1]["split"]
    assert split["snapshots"] == 0
    assert split["before"]["requests"] > 0
    assert split["during"]["requests"] > 0
    split_at = {r.operations[0] for _, r in terminal.cluster.sent(requests.AdminSplit)}
    assert len(split_at) == 2


def test_the_tables_show_what_was_asked(terminal: Terminal) -> None:
    outcome = terminal.run(
        *("bench", "--callers", "2", "--mix", "put=1,get=1,scan=1", "--split-at", "0.05"), *SHORT
    )
    assert outcome.exit_code == 0
    for text in ("put=1 get=1 scan=1", "per range, 2 callers", "the split took", "snapshots sent"):
        assert text in outcome.text


def test_a_refused_split_is_told_like_any_failure(terminal: Terminal) -> None:
    def refuse_second_split(_node: object, request: requests.BatchRequest) -> Plan:
        operation = request.operations[0]
        is_second = isinstance(operation, requests.AdminSplit) and b"0001" in operation.key
        refusal = errors.AdminRefusedError(reason="not now") if is_second else None
        return Plan(request_delay_s=0.001, refusal=refusal)

    terminal.cluster.intercept = refuse_second_split
    outcome = terminal.run("bench", "--callers", "1", "--split-at", "0.05", *SHORT)
    assert outcome.exit_code == 4
    assert outcome.notes.endswith("error: not now\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--callers", "0"),
        ("--callers", "x"),
        ("--mix", "drop=1"),
        ("--split-at", "9", "--seconds", "1"),
        ("--split-at", "-1"),
    ],
)
def test_impossible_shapes_are_refused(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    assert terminal.run("bench", *arguments, "--address", "127.0.0.1:7400").exit_code == 2
