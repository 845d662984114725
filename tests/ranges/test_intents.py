"""Intents at their range: laid, laid anew, looked for, resolved; reads that are refreshed."""

import pytest

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model.requests import Delete, Get, Put
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import (
    QueryIntent,
    QueryIntentResult,
    Refresh,
    RefreshResult,
    ResolveIntent,
)
from multiraft.mvcc import intents
from multiraft.ranges.commands.setting import Outcome
from tests.support.range_scene import ABORTED, COMMITTED, Scene, code_of, meta

ID = meta().id


def found(scene: Scene, key: bytes, sequence: int, timestamp: int) -> bool:
    outcome = scene.ask(QueryIntent(key, ID, sequence, Timestamp(timestamp)))
    result = outcome.results[0]
    assert isinstance(result, QueryIntentResult)
    return result.found


def resolve(scene: Scene, status: TransactionStatus, key: bytes, at: int = 0) -> Outcome:
    return scene.ask(ResolveIntent(key, ID, status, Timestamp(at)))


def test_a_part_is_laid_at_one_timestamp_above_everything_on_its_keys() -> None:
    scene = Scene()
    scene.put(b"a", b"v", 100)
    scene.part(Get(b"b"), txn=meta(b"u"), at=200)
    outcome = scene.lay({b"a": b"1", b"b": b"2", b"c": None}, at=50)
    assert outcome.timestamp == 201
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"c", None)):
        intent = intents.get(scene.reader, key)
        assert intent is not None
        assert (intent.timestamp, intent.value, intent.sequence) == (201, value, 1)
        assert intent.laid_at == scene.now
    assert scene.stats.locks == 3


def test_s11_an_own_read_at_the_very_time_does_not_push() -> None:
    scene = Scene()
    scene.part(Get(b"a"), at=200)
    assert scene.lay({b"a": b"1"}, at=200).timestamp == 200


def test_an_intent_is_above_the_time_its_transaction_was_issued() -> None:
    """S12: so the search for what it left, above that time, finds it."""
    assert Scene().lay({b"a": b"1"}, issued_at=77).timestamp == 78


def test_a_part_that_comes_again_changes_nothing() -> None:
    scene = Scene()
    first = scene.lay({b"a": b"1", b"b": b"1"}, at=50)
    scene.part(Get(b"a"), txn=meta(b"u"), at=200)
    again = scene.lay({b"a": b"1", b"b": b"1"}, at=50)
    assert again.changes is None
    assert again.timestamp == first.timestamp


def test_a_later_write_replaces_an_earlier_one_and_an_earlier_one_that_is_late_does_not() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    scene.lay({b"a": b"2"}, at=50, sequence=2)
    scene.lay({b"a": b"1"}, at=50, sequence=1)
    intent = intents.get(scene.reader, b"a")
    assert intent is not None
    assert (intent.value, intent.sequence) == (b"2", 2)
    assert scene.stats.locks == 1


@pytest.mark.parametrize("leads_anew", [False, True])
def test_s18_a_write_that_comes_after_the_commit_lays_nothing(leads_anew: bool) -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    resolve(scene, COMMITTED, b"a", 60)
    scene.put(b"a", b"later", 300)
    if leads_anew:
        scene.new_leader()
    late = scene.lay({b"a": b"1"}, at=50)
    assert late.changes is None
    assert late.timestamp == 60
    assert scene.value(b"a") == b"later"
    assert scene.stats.locks == 0


def test_s18_nothing_is_laid_for_what_is_known_to_have_committed() -> None:
    """Not even at a key that it did not write; the commit is remembered for all of the range."""
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    resolve(scene, COMMITTED, b"a", 60)
    late = scene.lay({b"other": b"1"}, at=50)
    assert late.changes is None
    assert late.timestamp == 60


def test_s18_an_intent_above_the_commit_timestamp_is_removed() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    resolve(scene, COMMITTED, b"a", 49)
    assert scene.newest(b"a") is None
    assert scene.stats.locks == 0


def test_s18_below_the_garbage_threshold_nothing_is_laid() -> None:
    scene = Scene()
    scene.gc_threshold = Timestamp(10)
    assert code_of(scene.lay({b"a": b"1"}, at=50)) == "outcome_unknown"


def test_resolving_leaves_the_locks_of_others() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, txn=meta(b"u"), at=50)
    for status, at in ((COMMITTED, 60), (ABORTED, 0)):
        assert resolve(scene, status, b"a", at).changes is None
        assert resolve(scene, status, b"nothing", at).changes is None
    assert scene.stats.locks == 1


def test_one_part_resolves_many_intents_and_a_key_only_once() -> None:
    scene = Scene()
    scene.lay({b"a": b"1", b"b": b"2"}, at=50)
    scene.lay({b"c": b"3"}, txn=meta(b"u"), at=50)
    scene.ask(
        ResolveIntent(b"a", ID, COMMITTED, Timestamp(60)),
        ResolveIntent(b"a", ID, COMMITTED, Timestamp(60)),
        ResolveIntent(b"b", ID, COMMITTED, Timestamp(60)),
        ResolveIntent(b"c", meta(b"u").id, ABORTED),
    )
    assert (scene.value(b"a"), scene.value(b"b"), scene.value(b"c")) == (b"1", b"2", None)
    assert scene.stats.locks == 0
    assert scene.recent.timestamp_of(ID) == 60
    assert scene.locks.is_empty


def test_resolving_lets_go_of_a_lock_that_is_not_replicated() -> None:
    scene = Scene()
    scene.locks.take(b"a", meta(), scene.now)
    assert resolve(scene, ABORTED, b"a").changes is None
    assert scene.locks.is_empty


# -- A9 --------------------------------------------------------------------------------------------


def test_a9_a_write_proves_only_its_own_sequence_at_or_below_the_time() -> None:
    """Pitfall (f): an earlier write of the same key proves nothing."""
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50, sequence=2)
    assert found(scene, b"a", 2, 50)
    assert found(scene, b"a", 2, 60)
    assert not found(scene, b"a", 2, 49)
    assert not found(scene, b"a", 1, 60), "an earlier write does not do (crdb#152010)"
    assert not found(scene, b"a", 3, 60)


def test_a9_a_write_that_was_resolved_is_found() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    resolve(scene, COMMITTED, b"a", 60)
    assert found(scene, b"a", 1, 60)


def test_a9_what_was_found_missing_is_never_laid_at_or_below_that_time() -> None:
    """Not even by the transaction itself, which may go on to believe in its commit."""
    scene = Scene()
    scene.part(Get(b"a"), at=60)
    assert not found(scene, b"a", 1, 60)
    assert scene.lay({b"a": b"1"}, at=60).timestamp == 61


# -- refresh ---------------------------------------------------------------------------------------


def refresh(scene: Scene, start: bytes, end: bytes, since: int, until: int) -> RefreshResult:
    outcome = scene.part(Refresh(start, end, Timestamp(since)), at=until)
    result = outcome.results[0]
    assert isinstance(result, RefreshResult)
    return result


@pytest.mark.parametrize(("start", "end"), [(b"b", b""), (b"a", b"c")])
def test_a_refresh_sees_every_change_in_between(start: bytes, end: bytes) -> None:
    scene = Scene()
    scene.put(b"b", b"v", 100)
    scene.put(b"b", None, 200)
    assert refresh(scene, start, end, 200, 300).succeeded
    assert refresh(scene, start, end, 100, 199).succeeded
    assert refresh(scene, start, end, 199, 200) == RefreshResult(False, b"b")
    assert refresh(scene, start, end, 100, 300) == RefreshResult(False, b"b")


def test_what_is_refreshed_counts_as_read_then() -> None:
    scene = Scene()
    assert refresh(scene, b"a", b"c", 100, 300).succeeded
    assert scene.cache.write_floor(b"b") == 301
    assert scene.cache.write_floor(b"b", ID) == 300


def test_what_fails_to_refresh_does_not_count_as_read() -> None:
    scene = Scene()
    scene.put(b"b", b"v", 200)
    outcome = scene.part(
        Refresh(b"a", b"", Timestamp(100)), Refresh(b"b", b"", Timestamp(100)), at=300
    )
    assert [r.succeeded for r in outcome.results if isinstance(r, RefreshResult)] == [True, False]
    assert scene.cache.write_floor(b"a") == 1


def test_a_refresh_fails_at_an_intent_of_another_but_not_at_an_own_one() -> None:
    for locks_max in (100, 1):
        scene = Scene(locks_max=locks_max)
        scene.lay({b"a": b"1", b"b": b"1"}, at=150)
        scene.lay({b"c": b"1"}, txn=meta(b"u", b"c"), at=150)
        assert refresh(scene, b"a", b"c", 100, 300).succeeded
        assert refresh(scene, b"a", b"d", 100, 300) == RefreshResult(False, b"c")
        assert refresh(scene, b"c", b"", 100, 150) == RefreshResult(False, b"c")
        assert refresh(scene, b"c", b"", 100, 149).succeeded


def test_own_versions_are_no_change() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=150)
    resolve(scene, COMMITTED, b"a", 160)
    assert refresh(scene, b"a", b"", 100, 300).succeeded


def test_a_long_refresh_goes_on_where_it_was_cut() -> None:
    scene = Scene()
    for number in range(10):
        scene.put(b"k%d" % number, b"v", 50)
    scene.put(b"k9", b"new", 200)
    scene.limits = type(scene.limits)(scan_passed_max=3)
    result = refresh(scene, b"k", b"l", 100, 300)
    assert result.succeeded
    assert b"k0" < result.resume < b"k9"
    assert scene.cache.write_floor(b"k0") == 301
    assert scene.cache.write_floor(result.resume) == 1, "not looked at yet"
    steps = 1
    while result.resume:
        result = refresh(scene, result.resume, b"l", 100, 300)
        steps += 1
    assert result == RefreshResult(False, b"k9")
    assert steps <= 4


def test_a_refresh_from_below_the_garbage_threshold_is_refused() -> None:
    """A tombstone in between may be gone."""
    scene = Scene()
    scene.gc_threshold = Timestamp(100)
    outcome = scene.part(Refresh(b"a", b"", Timestamp(100)), at=300)
    assert isinstance(outcome.error, errors.ReadTooOldError)


# -- a lock table that has spilled -----------------------------------------------------------------


def test_own_intents_are_found_when_the_table_does_not_hold_them() -> None:
    scene = Scene(locks_max=1)
    scene.lay({b"a": b"1", b"b": b"2", b"c": b"3"}, at=50)
    assert not scene.locks.complete
    assert scene.lay({b"a": b"1", b"b": b"2", b"c": b"3"}, at=50).changes is None
    scene.part(Put(b"c", b"4"), Delete(b"b"), at=50, sequence=2)
    assert scene.stats.locks == 3
    for key in (b"a", b"b", b"c"):
        resolve(scene, COMMITTED, key, 60)
    assert (scene.value(b"a"), scene.value(b"b"), scene.value(b"c")) == (b"1", None, b"4")
    assert scene.stats.locks == 0


def test_an_outcome_of_another_write_is_not_written_over() -> None:
    """S7: the trace of a write that changed nothing may have the very time that is wanted."""
    scene = Scene()
    scene.leave_outcome(b"a", 100)
    assert scene.lay({b"a": b"1"}, at=100).timestamp == 101
