from multiraft.cli import admin, cluster_view
from multiraft.cli.cluster_view import RangeView, ReplicaReport
from multiraft.ids import NodeId, RangeId
from multiraft.model import keys
from tests.cli.conftest import Terminal


def test_status_shows_nodes_and_ends_with_3_when_one_is_down(terminal: Terminal) -> None:
    outcome = terminal.run("status")
    assert outcome.exit_code == 0
    assert outcome.text.count(" up") == 3
    terminal.cluster.stop(NodeId(3))
    outcome = terminal.run("status", "--json")
    assert outcome.exit_code == 3
    assert [node["is_reachable"] for node in outcome.json["nodes"]] == [True, True, False]


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
