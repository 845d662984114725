"""Commits in one phase: at which time, and what comes of them when they come again (S9-S11)."""

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model.requests import Get
from multiraft.model.transaction_requests import HeartbeatTransaction
from tests.support.range_scene import (
    ABORTED,
    COMMITTED,
    PENDING,
    STAGING,
    Scene,
    code_of,
    meta,
    record_of,
)


def pushed_to(error: errors.MultiraftError | None) -> int:
    assert isinstance(error, errors.TransactionPushedError)
    return error.timestamp


def test_it_commits_at_its_read_timestamp() -> None:
    scene = Scene()
    scene.put(b"a", b"old", 100)
    outcome = scene.one_phase({b"a": b"new", b"b": None}, at=500)
    assert outcome.timestamp == 500
    record = record_of(outcome)
    assert record is not None
    assert (record.status, record.timestamp) == (COMMITTED, 500)
    newest = scene.newest(b"a")
    assert newest is not None
    assert (newest.timestamp, newest.id, newest.value) == (500, meta().id, b"new")
    assert scene.record() is None, "the version at the anchor says it"


def test_without_a_version_at_its_anchor_it_leaves_a_record() -> None:
    scene = Scene()
    scene.one_phase({b"b": b"1"}, at=500)
    record = scene.record()
    assert record is not None
    assert (record.status, record.timestamp) == (COMMITTED, 500)


def test_without_reads_it_commits_now() -> None:
    scene = Scene()
    assert scene.one_phase({b"a": b"1"}).timestamp == scene.now


def test_s10_a_write_below_a_read_of_its_key_is_pushed_not_moved() -> None:
    """S10: T1 and T2 read each other's key; neither may move above the other's read by itself."""
    scene = Scene()
    scene.part(Get(b"y"), txn=meta(b"u", b"x"), at=11)
    outcome = scene.one_phase({b"y": b"1"}, at=10, txn=meta(b"t", b"y"))
    assert pushed_to(outcome.error) == 12
    assert scene.newest(b"y") is None


def test_s11_a_read_by_another_at_the_very_time_pushes_but_not_an_own_one() -> None:
    scene = Scene()
    scene.part(Get(b"a"), at=100, issued_at=10)
    assert scene.one_phase({b"a": b"1"}, at=100).timestamp == 100
    scene.part(Get(b"b"), txn=meta(b"u"), at=100)
    outcome = scene.one_phase({b"b": b"1"}, at=100, txn=meta(b"v", b"b"))
    assert pushed_to(outcome.error) == 101


def test_s11_a_version_at_the_very_time_pushes() -> None:
    scene = Scene()
    scene.put(b"a", b"v", 100)
    assert pushed_to(scene.one_phase({b"a": b"1"}, at=100).error) == 101


def test_s10_it_is_moved_when_all_that_it_read_is_here_and_unchanged() -> None:
    scene = Scene()
    scene.put(b"r", b"seen", 50)
    scene.put(b"a", b"v", 200)
    outcome = scene.one_phase({b"a": b"1"}, at=100, read_spans=((b"r", b""), (b"s", b"t")))
    assert outcome.timestamp == 201
    # What it read counts as read there: nobody may write below it any more.
    for key in (b"r", b"s", b"sx"):
        assert scene.cache.write_floor(key) == 202
        assert scene.cache.write_floor(key, meta().id) == 201


def test_s10_it_is_not_moved_over_a_change_of_what_it_read() -> None:
    scene = Scene()
    scene.put(b"a", b"v", 200)
    scene.put(b"sx", b"new", 150)
    for span in ((b"sx", b""), (b"s", b"t")):
        outcome = scene.one_phase({b"a": b"1"}, at=100, read_spans=(span,))
        assert pushed_to(outcome.error) == 201
    assert scene.cache.write_floor(b"s") == 1, "nothing counts as read that was not"


def test_s10_it_is_not_moved_over_an_intent_on_what_it_read() -> None:
    scene = Scene()
    scene.put(b"a", b"v", 200)
    scene.lay({b"r": b"new"}, txn=meta(b"u", b"r"), at=150)
    outcome = scene.one_phase({b"a": b"1"}, at=100, read_spans=((b"r", b""),))
    assert pushed_to(outcome.error) == 201


def test_s10_it_is_not_moved_when_it_has_read_in_another_range() -> None:
    scene = Scene()
    scene.end = b"m"
    scene.put(b"a", b"v", 200)
    for span in ((b"z", b""), (b"k", b"n")):
        assert code_of(scene.one_phase({b"a": b"1"}, at=100, read_spans=(span,)))


def test_s9_an_attempt_that_comes_again_is_answered_with_the_first() -> None:
    """S9 a: before anything else, its own versions would look like changes of what it read."""
    for leads_anew in (False, True):
        scene = Scene()
        first = scene.one_phase({b"a": b"1"}, at=100, read_spans=((b"a", b""),))
        scene.put(b"a", b"later", 300)
        if leads_anew:
            scene.new_leader()
        again = scene.one_phase({b"a": b"1"}, at=100, read_spans=((b"a", b""),))
        assert again.changes is None
        assert again.timestamp == first.timestamp == 100
        record = record_of(again)
        assert record is not None
        assert record.status is COMMITTED
        assert scene.value(b"a") == b"later"


def test_s9_an_attempt_that_comes_after_its_end_was_asked_for_is_refused() -> None:
    """S9 b: it sat in a socket; its transaction was ended and run again under another ID."""
    scene = Scene()
    record = record_of(scene.finish(ABORTED))
    assert record is not None
    assert record.status is ABORTED
    late = scene.one_phase({b"a": b"1"}, at=100)
    assert code_of(late) == "transaction_aborted"
    assert scene.newest(b"a") is None


def test_s9_the_end_of_a_committed_transaction_is_that_it_has_committed() -> None:
    scene = Scene()
    scene.one_phase({b"a": b"1"}, at=100)
    record = record_of(scene.finish(ABORTED))
    assert record is not None
    assert (record.status, record.timestamp) == (COMMITTED, 100)
    assert scene.record() is None, "nothing was written"


def test_h1_a_pending_record_becomes_committed() -> None:
    scene = Scene()
    scene.part(HeartbeatTransaction(b"a"))
    record = scene.record()
    assert record is not None
    assert record.status is PENDING
    scene.one_phase({b"a": b"1"}, at=100)
    record = scene.record()
    assert record is not None
    assert (record.status, record.timestamp) == (COMMITTED, 100)


def test_one_that_is_staged_or_has_laid_intents_does_not_commit_in_one_phase() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"})
    assert code_of(scene.one_phase({b"a": b"2"}, at=100)) == "bad_request"
    scene = Scene()
    scene.finish(STAGING, 100)
    assert code_of(scene.one_phase({b"a": b"2"}, at=100)) == "bad_request"


def test_s18_below_the_garbage_threshold_the_outcome_is_unknown() -> None:
    scene = Scene()
    scene.gc_threshold = Timestamp(10)
    assert code_of(scene.one_phase({b"a": b"1"}, at=100)) == "outcome_unknown"
    scene.gc_threshold = Timestamp(0)
    scene.one_phase({b"a": b"1"}, at=100)
    scene.gc_threshold = Timestamp(10)
    assert scene.one_phase({b"a": b"1"}, at=100).timestamp == 100, "it has left a trace"


def test_its_locks_go_with_it() -> None:
    scene = Scene()
    for key in (b"a", b"b"):
        scene.locks.take(key, meta(), scene.now)
    outcome = scene.one_phase({b"a": b"1"}, at=100, locked=(b"b", b"\xffelsewhere"))
    assert scene.locks.is_empty
    assert outcome.unresolved == (b"\xffelsewhere",)
