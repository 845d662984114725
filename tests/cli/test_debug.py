"""`multiraft debug profile`, in front of a fake cluster."""

import pytest

from multiraft.ids import NodeId
from multiraft.model.requests import NodeProfile
from tests.cli.conftest import Terminal

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
BUSY = {
    "node_id": 1,
    "elapsed_us": 2_000_000,
    "loop_cpu_us": 900_000,
    "process_cpu_us": 1_200_000,
    "requests": 1_000,
    "turns": 500,
    "syncs": 250,
    "frames": 800,
    "log_bytes": 300_000,
    "stages": [
        {"name": "receive", "runs": 200, "us": 500_000, "cpu_us": 400_000, "bytes_in": 123_456},
        {"name": "answer", "runs": 100, "us": 300_000, "cpu_us": 300_000, "bytes_out": 9_999},
        {"name": "settle"},
    ],
    "other_us": 200_000,
    "idle_us": 1_000_000,
    "beside": [{"name": "sync wait", "runs": 250, "us": 500_000}],
    "a field of a later version": {},
}


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_profile_shows_stages_per_run_and_per_request(terminal: Terminal) -> None:
    terminal.cluster.profiles[N1] = BUSY
    outcome = terminal.run("debug", "profile", "--node", "1", "--seconds", "2")
    assert outcome.exit_code == 0
    lines = lines_of(outcome.text)
    assert lines[0] == "n1 c1-n1:7000: 1,000 requests in 2.0 s"
    assert "receive 200 500.0 400.0 2,000 400 123,456 25.0%" in lines
    assert "answer 100 300.0 300.0 3,000 300 9,999 15.0%" in lines
    assert "settle 0.0%" in lines
    assert "other 200.0 200.0 200 10.0%" in lines
    assert "idle 1,000.0 50.0%" in lines
    assert "sync wait 250 500.0 2,000 500" in lines
    assert "per request: 0.5 turns, 0.25 syncs, 0.8 frames, 300 bytes to the log" in outcome.text
    assert "processor: 45% by the loop, 60% in all\n" in outcome.text
    assert max(map(len, outcome.text.splitlines())) <= 80
    [(node, request)] = terminal.cluster.sent(NodeProfile)
    assert (node, request.operations) == (N1, (NodeProfile(2_000),))


def test_shares_are_of_the_requests_to_all_the_nodes_shown(terminal: Terminal) -> None:
    terminal.cluster.profiles[N1] = BUSY
    terminal.cluster.profiles[N2] = BUSY | {"node_id": 2, "requests": 3_000}
    outcome = terminal.run("debug", "profile")
    assert "per request: of the 4,000 that came to these nodes\n" in outcome.text
    assert lines_of(outcome.text).count("receive 200 500.0 400.0 2,000 100 123,456 25.0%") == 2


def test_without_requests_counts_are_told_as_they_are(terminal: Terminal) -> None:
    terminal.cluster.profiles[N1] = {"elapsed_us": 10, "turns": 3}
    outcome = terminal.run("debug", "profile", "--node", "1")
    assert "in all: 3 turns, 0 syncs, 0 frames, 0 bytes to the log\n" in outcome.text


@pytest.mark.parametrize(
    ("stall", "cause"),
    [
        ({"garbage_us": 60_000, "stage": "apply", "stage_us": 90_000}, "garbage collection"),
        ({"stage": "write", "stage_us": 60_000, "loop_cpu_us": 60_000}, "write"),
        ({"stage": "write", "stage_us": 60_000, "loop_cpu_us": 9_000}, "waiting in write"),
        (
            {"stage": "write", "stage_us": 40_000, "loop_cpu_us": 60_000},
            "work in several stages, or outside of them",
        ),
        ({"stage": "write", "stage_us": 40_000}, "no processor, or no interpreter"),
    ],
)
def test_a_stall_is_told_with_its_cause(
    terminal: Terminal, stall: dict[str, object], cause: str
) -> None:
    terminal.cluster.profiles[N1] = BUSY | {"stalls": [{"us": 100_000} | stall]}
    outcome = terminal.run("debug", "profile", "--node", "1")
    assert f"the loop stood still for 100.0 ms: {cause}" in " ".join(lines_of(outcome.text))


def test_of_stalls_the_three_longest_are_told(terminal: Terminal) -> None:
    terminal.cluster.profiles[N1] = {"stalls": [{"us": us} for us in (9_900, 8_800, 7_700, 6_600)]}
    text = terminal.run("debug", "profile", "--node", "1").text
    assert "7.7 ms" in text
    assert "6.6 ms" not in text


def test_profile_of_a_node_that_is_down_ends_with_3(terminal: Terminal) -> None:
    terminal.cluster.stop(N3)
    outcome = terminal.run("debug", "profile")
    assert outcome.exit_code == 3
    assert "n3: " in outcome.text
    found = terminal.run("debug", "profile", "--json")
    assert found.exit_code == 3
    assert [info["profile"] for info in found.json] == [{"node_id": 1}, {"node_id": 2}, None]
    assert "n3" in found.json[2]["reason"]


def test_a_node_that_does_not_exist_is_refused(terminal: Terminal) -> None:
    outcome = terminal.run("debug", "profile", "--node", "9", "--json")
    assert outcome.exit_code == 4
    assert "there is no node n9" in outcome.error["problem"]


def test_a_profile_has_a_length_that_nodes_take(terminal: Terminal) -> None:
    for seconds in ("0", "61"):
        outcome = terminal.run("debug", "profile", "--seconds", seconds)
        assert outcome.exit_code == 2
        assert "--seconds" in outcome.notes
