import pytest
from rich.console import Console

from bench import pauses
from bench.pauses import Found, Loop, Silence
from bench.rocksdb_diary import FLUSH, Activity
from multiraft.cli.measure import Latency, Summary, Window
from multiraft.cli.profile_view import ProfileReport, StageReport, StallReport

SILENCE = Silence(1_000_000, 1_200_000)


def stall(at_us: int, us: int = 100_000) -> StallReport:
    return StallReport(at_us=at_us, us=us, garbage_us=us)


def test_silences_are_the_gaps_between_ends_and_those_at_the_edges() -> None:
    window = Window(10.0, 20.0)
    found = pauses.longest_silences([9.0, 13.0, 14.0, 18.0, 21.0], window)
    assert found == [
        Window(14.0, 18.0),
        Window(10.0, 13.0),
        Window(18.0, 20.0),
        Window(13.0, 14.0),
    ]


def test_only_the_longest_silences_are_kept() -> None:
    ends = [float(number) for number in range(1, 100)]
    assert len(pauses.longest_silences(ends, Window(0.0, 100.0))) == pauses.SHOWN


@pytest.mark.parametrize(
    ("at_us", "is_named"),
    [(1_000_000, False), (1_000_001, True), (1_299_999, True), (1_300_000, False)],
)
def test_a_stall_is_named_if_it_overlaps(at_us: int, *, is_named: bool) -> None:
    told = list(pauses.reasons(SILENCE, [Loop("n2", (stall(at_us),))]))
    assert told == (["n2 stood still for 100 ms: garbage collection"] if is_named else [])


def test_what_the_engine_did_is_named_if_it_overlaps() -> None:
    flushes = (Activity(FLUSH, 900_000, 1_000_001), Activity(FLUSH, 1_200_000, 1_300_000))
    told = list(pauses.reasons(SILENCE, [Loop("n1", (), diary=flushes)]))
    assert told == ["n1 in a flush of 100 ms"]


def test_profiles_one_after_the_other_add_up() -> None:
    reports = [
        ProfileReport(
            stalls=(stall(1, us=20), stall(2, us=10)),
            beside=(StageReport("disk", 3, 300, longest_us=200),),
        ),
        ProfileReport(
            stalls=(stall(3, us=15),), beside=(StageReport("disk", 1, 90, longest_us=90),)
        ),
    ]
    found = pauses.added_up("n1", reports, ())
    assert [each.us for each in found.stalls] == [20, 15, 10]
    assert found.beside == (StageReport("disk", 4, 390, longest_us=200),)


def test_what_was_found_is_shown() -> None:
    summary = Summary(100, 10.0, Latency(2.0, 9.0, 9.5, 210.0), 200.0, 0)
    loop = Loop("n1", (stall(1_150_000),), (StageReport("disk", 4, 390_000, longest_us=200_000),))
    out = Console(width=100)
    with out.capture() as captured:
        pauses.show(Found(0, 64, 500_000, summary, (SILENCE,), (loop,)), out)
    text = captured.get()
    assert "p99 9.0 (4.5 times), longest 210.0 ms; 0 failed" in text
    assert "│ 0.50 │ 200.0     │ n1 stood still for 100 ms: garbage collection │" in text
    assert "│ disk │ 4     │ 390.0     │ 200.0      │" in text
