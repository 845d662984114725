"""Who is wrong about the time, by readings that only ever prove too little."""

import pytest

from multiraft.ids import NodeId
from multiraft.liveness.offsets import ClockOffsets, OffsetBounds

A = NodeId(1)
B = NodeId(2)
C = NodeId(3)
D = NodeId(4)
ROUNDS = 5
MS = 1_000


def note(offsets: ClockOffsets, node: NodeId, low_ms: int, high_ms: int | None = None) -> None:
    """Let the peer be ahead by at least `low_ms`, and by at most `high_ms`."""
    ahead_us_min = None if high_ms is None else -high_ms * MS
    offsets.note(node, sent_us=low_ms * MS, received_us=0, ahead_us_min=ahead_us_min)


def stops(nodes: tuple[NodeId, ...], *readings: tuple[NodeId, int, int | None]) -> bool:
    """Return whether the same readings, round after round, stop node A."""
    offsets = ClockOffsets(250)
    verdicts = []
    for _ in range(ROUNDS):
        for node, low_ms, high_ms in readings:
            note(offsets, node, low_ms, high_ms)
        verdicts.append(offsets.end_round(nodes))
    assert not any(verdicts[:-1]), "no verdict before the last round"
    return verdicts[-1]


def test_a_delay_weakens_the_evidence() -> None:
    offsets = ClockOffsets(250)
    offsets.note(B, sent_us=1_000_300, received_us=1_000_000 + 50, ahead_us_min=-260)
    assert offsets.bounds(B) == OffsetBounds(250, 260)
    assert offsets.ahead_us_min(B) == 250


def test_a_peer_that_was_not_heard_is_unknown() -> None:
    offsets = ClockOffsets(250)
    assert offsets.bounds(B) is None
    assert offsets.ahead_us_min(B) is None


def test_a_node_behind_two_of_three_nodes_stops() -> None:
    assert stops((A, B, C), (B, 201, None), (C, 201, None))


def test_a_node_ahead_of_two_of_three_nodes_stops() -> None:
    assert stops((A, B, C), (B, -900, -201), (C, -900, -201))


def test_eighty_percent_of_the_offset_is_still_allowed() -> None:
    assert not stops((A, B, C), (B, 200, 200), (C, 200, 200))
    assert not stops((A, B, C), (B, -200, -200), (C, -200, -200))


def test_a_slow_way_alone_proves_nothing() -> None:
    assert not stops((A, B, C), (B, -900, None), (C, -900, 900))


def test_a_node_that_differs_from_one_of_three_goes_on() -> None:
    assert not stops((A, B, C), (B, 300, 300), (C, 0, 0))


def test_a_node_between_two_others_goes_on() -> None:
    assert not stops((A, B, C), (B, 300, 300), (C, -300, -300))


def test_of_two_nodes_none_stops() -> None:
    assert not stops((A, B), (B, 300, 300))


def test_two_of_four_nodes_are_no_majority() -> None:
    assert not stops((A, B, C, D), (B, 300, 300), (C, 300, 300))
    assert stops((A, B, C, D), (B, 300, 300), (C, 300, 300), (D, 300, 300))


def test_one_good_round_starts_the_count_again() -> None:
    offsets = ClockOffsets(250)
    for _ in range(3):
        for _ in range(ROUNDS - 1):
            note(offsets, B, 300)
            note(offsets, C, 300)
            assert not offsets.end_round((A, B, C))
        note(offsets, B, 0)
        assert not offsets.end_round((A, B, C))


def test_old_readings_do_not_count() -> None:
    offsets = ClockOffsets(250)
    note(offsets, B, 300)
    note(offsets, C, 300)
    assert not any(offsets.end_round((A, B, C)) for _ in range(4 * ROUNDS))
    assert offsets.bounds(B) is None


@pytest.mark.parametrize(("every", "has_to_stop"), [(3, True), (4, False)])
def test_a_reading_counts_for_three_rounds(every: int, has_to_stop: bool) -> None:
    offsets = ClockOffsets(250)
    verdicts = []
    for number in range(4 * ROUNDS):
        if number % every == 0:
            note(offsets, B, 300)
            note(offsets, C, 300)
        verdicts.append(offsets.end_round((A, B, C)))
    assert any(verdicts) is has_to_stop


def test_nodes_that_are_no_peers_do_not_count() -> None:
    assert not stops((A, B, C), (B, 300, 300), (D, 300, 300))
