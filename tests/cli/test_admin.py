import pytest

from multiraft.cli import admin, cluster_view
from multiraft.cli.cluster_view import RangeView, ReplicaReport
from multiraft.ids import NodeId, RangeId
from multiraft.model import keys, locality
from multiraft.model.requests import BatchRequest, NodeStatus, Scan
from tests.cli.conftest import Terminal
from tests.support.fake_cluster import EVALUATE, Plan, address_of

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
HEALTHY = {
    "node_id": 1,
    "uptime_s": 3_700.0,
    "memory_bytes": 60 << 20,
    "free_disk_bytes": 80 << 30,
    "store": {"replicas": 12, "leaders": 5, "requests": 123_456, "syncs": 7_890},
    "a field of a later version": {},
}


def test_status_shows_what_each_node_does(terminal: Terminal) -> None:
    terminal.cluster.node_statuses[N1] = HEALTHY
    outcome = terminal.run("status")
    assert outcome.exit_code == 0
    lines = [" ".join(line.split()) for line in outcome.text.splitlines()]
    assert lines[0] == "cluster c1, 2 ranges"
    assert any(line.endswith(" up 1h 1m 12 5 123,456 7,890 60 MiB 80 GiB") for line in lines)
    assert outcome.text.count(" up ") == 3
    assert not [line for line in lines if line.startswith("n1:")], "nothing is wrong"


def test_status_tells_what_is_wrong_with_a_node(terminal: Terminal) -> None:
    store = {"write_refusal": "the disk is full", "snapshots": {"failed": 2, "last_failure": "r7"}}
    terminal.cluster.node_statuses[N2] = {"node_id": 2, "store": store}
    outcome = terminal.run("status")
    assert outcome.exit_code == 0, "it answers"
    assert outcome.text.count("up 0s !") == 1
    assert "n2: writes are refused: the disk is full\n" in outcome.text
    assert "n2: 2 failed snapshots, the last: r7\n" in outcome.text


def test_status_shows_a_node_that_is_down_and_ends_with_3(terminal: Terminal) -> None:
    terminal.cluster.stop(N3)
    outcome = terminal.run("status")
    assert outcome.exit_code == 3
    assert outcome.text.count(" down ") == 1
    assert "n3: " in outcome.text


def test_status_shows_where_nodes_are_if_any_has_told(terminal: Terminal) -> None:
    terminal.cluster.localities[N2] = locality.parse("zone=b,host=alpha")
    terminal.cluster.stop(N2)
    outcome = terminal.run("status")
    assert [line.strip() for line in outcome.text.splitlines()].count("zone=b,host=alpha") == 1
    told = terminal.run("status", "--json").json["nodes"]
    assert [node["locality"] for node in told] == ["", "zone=b,host=alpha", ""]


def test_status_as_json_holds_all_that_nodes_tell(terminal: Terminal) -> None:
    terminal.cluster.node_statuses[N1] = HEALTHY
    terminal.cluster.stop(N3)
    outcome = terminal.run("status", "--json")
    assert outcome.exit_code == 3
    nodes = outcome.json["nodes"]
    assert [node["is_reachable"] for node in nodes] == [True, True, False]
    assert [node["status"] for node in nodes] == [HEALTHY, {"node_id": 2}, None]


def test_status_without_a_majority_still_shows_the_nodes(terminal: Terminal) -> None:
    terminal.cluster.intercept = lambda _node, request: (
        EVALUATE if isinstance(request.operations[0], NodeStatus) else Plan(drop_request=True)
    )
    outcome = terminal.run("status")
    assert outcome.exit_code == 3
    assert outcome.text.startswith("cluster c1, ranges unknown\n")
    assert outcome.text.count(" up ") == 3
    assert terminal.run("status", "--json").json["ranges"] is None


def test_ranges_in_key_order_with_readable_boundaries(terminal: Terminal) -> None:
    terminal.run("split", r"m\x00")
    outcome = terminal.run("ranges")
    lines = [line.split() for line in outcome.text.splitlines() if line.strip().startswith("r")]
    assert [line[0] for line in lines if line[0] != "range"] == ["r1", "r2", "r3"]
    assert r"m\x00" in outcome.text
    assert "n1 n2 n3" in outcome.text


def test_ranges_as_json(terminal: Terminal) -> None:
    terminal.run("split", "m")
    found = terminal.run("ranges", "--json").json
    assert [each["range_id"] for each in found] == [1, 2, 3]
    assert found[2]["start"] == "\x10m"
    assert found[2]["end_hex"] == "ff"
    assert found[2]["replicas"] == [1, 2, 3]


def test_split_tells_both_halves(terminal: Terminal) -> None:
    assert terminal.run("split", "m", "--json").json == {"left": 2, "right": 3}
    assert terminal.run("split", "t").text == "left   r3: m up to t\nright  r4: t up to (last)\n"


def test_transfer_takes_numbers_with_or_without_letters(terminal: Terminal) -> None:
    assert terminal.run("transfer", "r2", "n3").text == "r2 is led by n3\n"
    assert terminal.cluster.ranges[RangeId(2)].leader == 3
    assert terminal.run("transfer", "2", "1", "--json").json == {"range_id": 2, "leader": 1}
    assert terminal.run("transfer", "range2", "1").exit_code == 2


def test_transfer_of_a_range_that_is_not_there_is_refused(terminal: Terminal) -> None:
    outcome = terminal.run("transfer", "r99", "n1")
    assert outcome.exit_code == 4
    assert "there is no range r99" in outcome.notes


def view(range_id: int, served: int | None) -> RangeView:
    report = None if served is None else ReplicaReport(requests_served=served)
    return RangeView(RangeId(range_id), b"", b"\xff", 1, (), None, report)


def test_rates_count_from_zero_after_a_change_of_leader() -> None:
    before = [view(1, 100), view(2, 100), view(3, 100), view(4, None)]
    after = [view(1, 300), view(2, 40), view(3, None), view(4, 10), view(5, 20)]
    assert cluster_view.requests_per_second(before, after, 2.0) == {1: 100, 2: 20, 4: 5, 5: 10}


def test_boundaries_are_shown_as_a_user_would_type_them() -> None:
    shown = [keys.MIN, keys.PLAIN, keys.PLAIN + b"a\xff", keys.END, keys.SYSTEM + b"x"]
    assert [cluster_view.show_boundary(key) for key in shown] == [
        "(system)",
        "(first)",
        r"a\xff",
        "(last)",
        "/system/x",
    ]


def test_sizes_are_shown_in_binary_units() -> None:
    assert admin.show_size(0) == "0 B"
    assert admin.show_size(1_023) == "1,023 B"
    assert admin.show_size(1_536) == "1.5 KiB"
    assert admin.show_size(5 << 40) == "5.0 TiB"


def test_ranges_watched_through_a_pipe_come_one_table_after_the_other(terminal: Terminal) -> None:
    looks = 0

    def fall_silent(_node_id: NodeId, request: BatchRequest) -> Plan:
        nonlocal looks
        looks += isinstance(request.operations[0], Scan)
        return EVALUATE if looks <= 4 else Plan(drop_request=True)

    terminal.cluster.intercept = fall_silent
    outcome = terminal.run("ranges", "--watch", "--timeout", "2")
    assert outcome.exit_code == 3
    assert outcome.text.count("req/s") > 1
    assert outcome.text.endswith("\n")


def test_a_deadline_that_makes_no_sense_is_a_wrong_command_line(terminal: Terminal) -> None:
    for timeout in ("0", "-1", "nan"):
        outcome = terminal.run("get", "k", "--timeout", timeout)
        assert (outcome.exit_code, terminal.cluster.requests) == (2, [])
        assert "--timeout" in outcome.notes


def test_addresses_are_whole_in_a_narrow_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal.cluster.node_statuses[N1] = HEALTHY
    text = terminal.run("status").text
    for node_id in terminal.cluster.node_ids:
        assert address_of(node_id, "c1") in text
