from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft.client.transaction.read_spans import ReadSpans, Span
from multiraft.ids import Timestamp
from multiraft.model.requests import Get, Scan
from multiraft.model.transaction_requests import Refresh

ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.binary(max_size=2)


def test_pages_that_follow_each_other_are_one_span() -> None:
    reads = ReadSpans(10)
    reads.add_span(b"a", b"c")
    reads.add_span(b"c", b"e")
    reads.add_span(b"x", b"z")
    reads.add_span(b"v", b"x")
    reads.add_span(b"m", b"m")
    assert list(reads.all()) == [(b"a", b"e"), (b"v", b"z")]


def test_what_is_being_read_counts() -> None:
    reads = ReadSpans(10)
    token = reads.begin((Get(b"a"), Get(b"b")))
    other = reads.begin((Scan(b"k", b"m"),))
    assert reads.refreshes(Timestamp(7)) == [
        Refresh(b"a", b"", Timestamp(7)),
        Refresh(b"b", b"", Timestamp(7)),
        Refresh(b"k", b"m", Timestamp(7)),
    ]
    reads.end(token)
    reads.end(other)
    assert len(reads) == 0


def test_whether_everything_lies_in_a_range() -> None:
    reads = ReadSpans(10)
    reads.add(b"b")
    reads.add_span(b"c", b"e")
    assert reads.within(b"b", b"e")
    assert not reads.within(b"b1", b"e")
    assert not reads.within(b"b", b"d")


def covers(spans: list[Span], key: bytes) -> bool:
    return any(key == start or (end and start <= key < end) for start, end in spans)


@ANY_SPEED
@given(st.lists(st.tuples(KEYS, KEYS | st.none()), max_size=20), st.integers(1, 8))
def test_nothing_that_was_read_is_forgotten_and_the_number_is_bounded(
    read: list[tuple[bytes, bytes | None]], spans_max: int
) -> None:
    reads = ReadSpans(spans_max)
    expected: list[bytes] = []
    for start, end in read:
        if end is None:
            reads.add(start)
            expected.append(start)
        else:
            reads.add_span(start, end)
            expected += [start] * (start < end)
            expected += [each for each, _ in read if start <= each < end]
    spans = list(reads.all())
    assert len(spans) <= 2 * spans_max
    assert all(covers(spans, key) for key in expected)
