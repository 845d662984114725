from hdrh.histogram import HdrHistogram

from multiraft.cli import measure
from multiraft.cli.measure import Failed, Latency, Recorder, Window


def recorder_with(writes: dict[int, list[tuple[float, float]]]) -> Recorder:
    recorder = Recorder(2)
    for slot, requests in writes.items():
        for began, ended in requests:
            recorder.writes[slot].add(began, ended)
    return recorder


def test_a_window_counts_what_ended_in_it() -> None:
    recorder = recorder_with({0: [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]})
    recorder.reads[1].add(1.0, 2.5)
    summary = recorder.summary(Window(1.5, 3.0))
    assert (summary.requests, summary.per_second) == (2, round(2 / 1.5, 1))
    assert recorder.summary(Window(1.5, 3.0), [1]).requests == 1
    assert recorder.summary(Window(1.5, 3.0), writes_only=True).requests == 1


def test_percentiles_are_right_to_three_digits() -> None:
    recorder = recorder_with({0: [(0.0, n / 1000) for n in range(1, 1001)]})
    latency = recorder.summary(Window(0.0, 2.0)).latency_ms
    assert abs(latency.p50 - 500) <= 1
    assert abs(latency.p99 - 990) <= 1
    assert abs(latency.max - 1_000) <= 1


def test_a_stall_includes_silence_at_both_ends() -> None:
    recorder = recorder_with({0: [(0.0, 4.0), (0.0, 5.0)]})
    assert recorder.summary(Window(1.0, 6.0)).stall_ms == 3_000
    assert recorder.summary(Window(3.0, 9.0)).stall_ms == 4_000
    assert recorder.summary(Window(3.0, 9.0), [1]).stall_ms == 6_000


def test_a_slot_that_is_silent_is_not_covered_by_a_busy_one() -> None:
    recorder = recorder_with({0: [(0.0, n / 10) for n in range(100)], 1: [(0.0, 9.0)]})
    assert recorder.summary(Window(0.0, 10.0), [0]).stall_ms < 200
    assert recorder.summary(Window(0.0, 10.0), [1]).stall_ms == 9_000


def test_failures_are_counted_in_their_window_and_slot() -> None:
    recorder = Recorder(2)
    recorder.failed += [Failed(1.0, 0, "a", ""), Failed(2.0, 1, "b", ""), Failed(5.0, 0, "a", "")]
    assert recorder.summary(Window(0.0, 3.0)).failed == 2
    assert recorder.summary(Window(0.0, 3.0), [1]).failed == 1
    assert recorder.failures_by_code() == {"a": 2, "b": 1}


def test_an_empty_window_measures_nothing() -> None:
    summary = Recorder(1).summary(Window(1.0, 1.0))
    assert (summary.requests, summary.per_second, summary.latency_ms) == (0, 0.0, Latency())


def test_the_histogram_survives_its_encoding() -> None:
    recorder = recorder_with({0: [(0.0, 0.005), (0.0, 0.010)]})
    encoded = measure.histogram(recorder.writes, Window(0.0, 1.0)).encode()
    assert HdrHistogram.decode(encoded).get_total_count() == 2
