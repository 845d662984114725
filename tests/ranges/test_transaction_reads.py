"""Reads of transactions: their time, their uncertainty, their locks (S11, S13)."""

import pytest

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model.requests import Get, GetResult, Scan, ScanResult
from multiraft.ranges.commands.setting import Outcome
from tests.support.range_scene import Scene, code_of, meta


def value_of(outcome: Outcome) -> bytes | None:
    result = outcome.results[0]
    assert isinstance(result, GetResult), outcome.error
    return result.value


def rows_of(outcome: Outcome) -> tuple[bytes, ...]:
    result = outcome.results[0]
    assert isinstance(result, ScanResult), outcome.error
    return result.rows


def uncertain_at(outcome: Outcome) -> int:
    assert isinstance(outcome.error, errors.ReadUncertainError), outcome.results
    return outcome.error.timestamp


def test_the_first_read_chooses_the_timestamp_and_tells_the_limit() -> None:
    scene = Scene()
    outcome = scene.part(Get(b"a"))
    assert outcome.timestamp == scene.now
    assert outcome.uncertainty_limit == scene.now + scene.offset
    assert scene.part(Get(b"a"), at=500).uncertainty_limit == 0


@pytest.mark.parametrize("operation", [Get(b"a"), Scan(b"a", b"b"), Scan(b"a", b"b", True)])
def test_s13_a_version_up_to_the_limit_may_not_be_missed(operation: Get | Scan) -> None:
    scene = Scene()
    scene.put(b"a", b"old", 100)
    scene.put(b"a", b"new", 200)
    assert uncertain_at(scene.part(operation, at=150, limit=200)) == 200
    assert scene.cache.write_floor(b"a") == 1, "it was not read"
    outcome = scene.part(operation, at=150, limit=199)
    assert outcome.error is None
    if isinstance(operation, Get):
        assert value_of(outcome) == b"old"
    else:
        assert rows_of(outcome) == (b"a", b"old")
    assert scene.part(operation, at=200, limit=300).error is None


def test_s13_a_removal_may_not_be_missed_either() -> None:
    scene = Scene()
    scene.put(b"a", b"old", 100)
    scene.put(b"a", None, 200)
    assert uncertain_at(scene.part(Get(b"a"), at=150, limit=200)) == 200


def test_s13_of_a_page_only_what_it_has_decided_is_uncertain() -> None:
    scene = Scene()
    for key in (b"a", b"b", b"c"):
        scene.put(key, b"v", 100)
    scene.put(b"c", b"new", 200)
    outcome = scene.part(Scan(b"a", b"z", limit_keys=2), at=150, limit=300)
    assert rows_of(outcome) == (b"a", b"v", b"b", b"v")
    assert scene.cache.write_floor(b"b") == 151
    assert scene.cache.write_floor(b"c") == 1
    outcome = scene.part(Scan(b"a", b"z", True, limit_keys=1), at=150, limit=300)
    assert uncertain_at(outcome) == 200
    scene.put(b"a", b"new", 200)
    outcome = scene.part(Scan(b"a", b"c", True, limit_keys=1), at=150, limit=300)
    assert rows_of(outcome) == (b"b", b"v")


def test_s11_what_is_read_is_remembered_with_who_read_it() -> None:
    scene = Scene()
    scene.part(Get(b"a"), Get(b"b"), at=150)
    scene.part(Scan(b"m", b"n"), at=150)
    for key in (b"a", b"b", b"mm"):
        assert scene.cache.write_floor(key, meta().id) == 150
        assert scene.cache.write_floor(key) == 151


def test_its_own_intents_are_not_read() -> None:
    scene = Scene()
    scene.put(b"a", b"old", 100)
    scene.lay({b"a": b"new"}, at=150)
    assert value_of(scene.part(Get(b"a"), at=150, limit=200)) == b"old"


def test_a_read_that_locks_must_be_of_the_newest_version() -> None:
    scene = Scene()
    scene.put(b"a", b"new", 200)
    assert uncertain_at(scene.part(Get(b"a"), at=150, is_locking=True)) == 200
    assert value_of(scene.part(Get(b"a"), at=200, is_locking=True)) == b"new"


@pytest.mark.parametrize("change", [b"new", None])
def test_a_scan_that_locks_must_find_the_newest_versions(change: bytes | None) -> None:
    scene = Scene()
    scene.put(b"a", b"v", 100)
    scene.put(b"b", b"old", 100)
    scene.put(b"b", change, 200)
    scene.put(b"c", b"only new", 200)
    assert scene.part(Scan(b"a", b"z"), at=150).to_lock == ()
    assert uncertain_at(scene.part(Scan(b"a", b"z"), at=150, is_locking=True)) == 200
    page = scene.part(Scan(b"a", b"z", limit_keys=1), at=150, is_locking=True)
    assert page.to_lock == (b"a",), "the rest of the span is another page's"
    page = scene.part(Scan(b"b\x00", b"z"), at=150, is_locking=True)
    assert (page.error, page.to_lock) == (None, ()), "what it does not find it does not lock"
    page = scene.part(Scan(b"a", b"z", True), at=200, is_locking=True)
    assert page.to_lock == tuple([key for key in (b"c", b"b", b"a") if change or key != b"b"])


def test_a_read_at_or_below_the_garbage_threshold_is_refused() -> None:
    scene = Scene()
    scene.gc_threshold = Timestamp(150)
    assert code_of(scene.part(Get(b"a"), at=150)) == "read_too_old"
    assert code_of(scene.part(Scan(b"a", b"b"), at=100)) == "read_too_old"


def test_values_beyond_the_limit_are_refused() -> None:
    scene = Scene()
    scene.limits = type(scene.limits)(batch_bytes_max=10)
    scene.put(b"a", b"v" * 11, 100)
    assert code_of(scene.part(Get(b"a"), at=150)) == "batch_too_large"
