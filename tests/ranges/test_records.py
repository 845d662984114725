"""Records of transactions, step by step: coordinator, pushers, recovery."""

from typing import get_args

import pytest

from multiraft.ids import Timestamp
from multiraft.model import requests
from multiraft.model.requests import Delete, Get, Operation, Put, Scan
from multiraft.model.transaction import IntentRef, TransactionMeta, TransactionStatus
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
)
from multiraft.mvcc import intents
from multiraft.ranges import transactions
from multiraft.ranges.commands.intents import RESOLVED_MAX
from multiraft.ranges.commands.setting import Outcome
from tests.support.range_scene import (
    ABORTED,
    COMMITTED,
    EXPIRY,
    PENDING,
    STAGING,
    Scene,
    code_of,
    meta,
    record_of,
)

A, B = (b"a", 1), (b"b", 1)
ALWAYS = 1 << 40


def push(
    scene: Scene,
    *,
    laid_at: int = ALWAYS,
    issued_at: int = ALWAYS,
    kind: PushKind = PushKind.ABORT,
    priority: int = 0,
    push_to: int = 0,
    force: bool = False,
    reason: str = "",
) -> Outcome:
    return scene.ask(
        PushTransaction(
            b"a",
            meta(),
            Timestamp(laid_at),
            Timestamp(issued_at),
            kind,
            TransactionMeta(b"p" * 16, priority=priority),
            Timestamp(push_to),
            force,
            reason,
        )
    )


def recover(scene: Scene, at: int, *, committed: bool) -> Outcome:
    return scene.ask(RecoverTransaction(b"a", meta().id, Timestamp(at), committed))


def status_of(outcome: Outcome) -> TransactionStatus | None:
    record = record_of(outcome)
    return None if record is None else record.status


def stored(scene: Scene) -> TransactionStatus | None:
    record = scene.record()
    return None if record is None else record.status


def in_state(status: TransactionStatus | None) -> Scene:
    """Return a scene with a transaction in that state, its writes laid at 50."""
    scene = Scene()
    scene.lay({b"a": b"1", b"b": b"2"}, at=50)
    if status is PENDING:
        scene.part(HeartbeatTransaction(b"a"))
    elif status is not None:
        scene.finish(status, 50, A, B)
    assert stored(scene) is status
    return scene


ALL_STATES = (None, PENDING, STAGING, COMMITTED, ABORTED)


def test_every_operation_of_transactions_is_evaluated() -> None:
    kinds = {Get, Scan, Put, Delete, *requests.TRANSACTIONAL}
    assert set(transactions.EVALUATE) == kinds
    assert kinds <= set(get_args(Operation))


# -- the coordinator -------------------------------------------------------------------------------

TRANSITIONS = {
    # From absent, PENDING, STAGING, COMMITTED, ABORTED: what is answered, then what is there.
    STAGING: ("STAGING", "STAGING", "STAGING", "COMMITTED", "transaction_aborted"),
    COMMITTED: ("COMMITTED", "COMMITTED", "COMMITTED", "COMMITTED", "transaction_aborted"),
    ABORTED: ("ABORTED", "ABORTED", "ABORTED", "COMMITTED", "ABORTED"),
}


@pytest.mark.parametrize("wanted", list(TRANSITIONS))
@pytest.mark.parametrize("number", range(5))
def test_what_an_end_leads_to(wanted: TransactionStatus, number: int) -> None:
    scene = in_state(ALL_STATES[number])
    outcome = scene.finish(wanted, 50, A, B)
    expected = TRANSITIONS[wanted][number]
    if expected.isupper():
        assert status_of(outcome) is TransactionStatus[expected]
        assert stored(scene) is TransactionStatus[expected]
    else:
        assert code_of(outcome) == expected
        assert stored(scene) is ALL_STATES[number]


def test_a_commit_resolves_what_lies_here_in_the_same_command() -> None:
    scene = Scene()
    scene.end = b"m"
    scene.lay({b"a": b"1", b"b": b"2"}, at=50)
    outcome = scene.finish(COMMITTED, 60, A, B, (b"z", 2), locked=(b"c", b"y"))
    assert (scene.value(b"a"), scene.value(b"b")) == (b"1", b"2")
    assert scene.stats.locks == 0
    assert scene.recent.timestamp_of(meta().id) == 60
    assert outcome.ended is not None
    assert outcome.ended.status is COMMITTED
    assert outcome.unresolved == (b"z", b"y")


def test_of_many_intents_some_are_resolved_with_the_commit_and_the_rest_behind() -> None:
    """A command has a bounded size, and its evaluation holds nobody up for long."""
    scene = Scene()
    named = [(b"k%03d" % number, 1) for number in range(RESOLVED_MAX + 50)]
    scene.lay({key: b"v" for key, _ in named}, at=50)
    outcome = scene.finish(COMMITTED, 60, *named)
    assert scene.stats.locks == 50
    assert outcome.unresolved == tuple(key for key, _ in named[RESOLVED_MAX:])
    scene = Scene()
    named = named[:9]
    scene.lay({key: b"v" * (1 << 18) for key, _ in named}, at=50)
    outcome = scene.finish(COMMITTED, 60, *named)
    assert scene.stats.locks == len(outcome.unresolved) == 5


def test_a_roll_back_removes_what_lies_here_and_may_be_repeated() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=50)
    scene.finish(ABORTED, 0, A)
    assert scene.stats.locks == 0
    scene.lay({b"a": b"1"}, at=50)  # It was delayed.
    scene.end = b"m"
    again = scene.finish(ABORTED, 0, A, (b"z", 2))
    assert status_of(again) is ABORTED
    assert again.ended is not None, "what it has locked meanwhile goes, too"
    assert again.unresolved == (b"z",)
    assert scene.stats.locks == 0
    assert scene.newest(b"a") is None
    assert scene.finish(ABORTED, 0, A).changes is None, "nothing is left to be written"


def test_who_comes_after_a_roll_back_is_told_why_it_was() -> None:
    scene = Scene()
    scene.part(EndTransaction(b"a", ABORTED, reason="its client was closed"))
    refused = scene.finish(STAGING, 50, A, B)
    assert refused.error is not None
    assert refused.error.facts["reason"] == "its client was closed"


def test_staging_lays_the_writes_of_its_part() -> None:
    scene = Scene()
    outcome = scene.finish(STAGING, 50, A, B, writes={b"a": b"1", b"b": None})
    assert status_of(outcome) is STAGING
    record = scene.record()
    assert record is not None
    assert record.writes == (IntentRef(b"a", 1), IntentRef(b"b", 1))
    assert record.heartbeat == scene.now
    assert scene.stats.locks == 2


def test_staging_writes_nothing_if_a_write_would_lie_above_it() -> None:
    scene = Scene()
    scene.put(b"b", b"v", 70)
    outcome = scene.finish(STAGING, 50, A, B, writes={b"a": b"1", b"b": b"2"})
    assert code_of(outcome) == "transaction_pushed"
    assert outcome.error is not None
    assert outcome.error.facts["timestamp"] == 71
    assert scene.stats.locks == 0
    assert scene.record() is None


def test_staging_is_refused_if_a_write_of_before_lies_above_it() -> None:
    scene = Scene()
    scene.lay({b"a": b"1"}, at=80)
    outcome = scene.finish(STAGING, 50, A, B, writes={b"a": b"1", b"b": b"2"})
    assert code_of(outcome) == "transaction_pushed"
    assert scene.stats.locks == 1


def test_it_is_staged_anew_above_but_not_below() -> None:
    scene = in_state(STAGING)
    assert status_of(scene.finish(STAGING, 70, A, B)) is STAGING
    record = scene.record()
    assert record is not None
    assert record.timestamp == 70
    assert code_of(scene.finish(STAGING, 60, A, B)) == "transaction_pushed"


def test_what_is_staged_commits_at_that_timestamp_only() -> None:
    scene = in_state(STAGING)
    for at in (49, 51):
        assert code_of(scene.finish(COMMITTED, at, A, B)) == "bad_request"
        assert stored(scene) is STAGING


def test_a_commit_that_is_repeated_is_answered_with_the_time_that_it_has() -> None:
    scene = in_state(COMMITTED)
    for wanted in (STAGING, COMMITTED):
        assert scene.finish(wanted, 70, A, B).timestamp == 50


@pytest.mark.parametrize("status", [COMMITTED, ABORTED])
def test_an_end_that_names_no_writes_leaves_those_that_were_staged_to_be_resolved(
    status: TransactionStatus,
) -> None:
    scene = in_state(STAGING)
    outcome = scene.finish(status, 50)
    record = record_of(outcome)
    assert record is not None
    assert [write.key for write in record.writes] == [b"a", b"b"]
    assert outcome.unresolved == (b"a", b"b")


def test_a_write_that_is_named_twice_is_resolved_once() -> None:
    scene = in_state(None)
    outcome = scene.finish(COMMITTED, 60, A, B, A)
    assert outcome.unresolved == ()
    assert scene.stats.locks == 0


def test_a_roll_back_leaves_what_may_have_committed() -> None:
    """Only a coordinator that knows of a write above the staging timestamp may end it."""
    scene = in_state(STAGING)
    assert status_of(scene.finish(ABORTED, 0, A, B)) is STAGING
    assert status_of(scene.finish(ABORTED, 49, A, B)) is STAGING
    assert status_of(scene.finish(ABORTED, 51, A, B)) is STAGING
    assert stored(scene) is STAGING
    assert scene.stats.locks == 2
    assert status_of(scene.finish(ABORTED, 50, A, B)) is ABORTED
    assert scene.stats.locks == 0


@pytest.mark.parametrize("status", ALL_STATES)
def test_a_heartbeat_keeps_the_state_and_moves_its_time(status: TransactionStatus | None) -> None:
    scene = in_state(status)
    scene.now = Timestamp(2_000)
    outcome = scene.part(HeartbeatTransaction(b"a"))
    assert status_of(outcome) is (status or PENDING)
    record = scene.record()
    assert record is not None
    if record.status.is_final:
        assert outcome.changes is None
    else:
        assert record.heartbeat == 2_000


@pytest.mark.parametrize("status", [PENDING, STAGING])
def test_a_heartbeat_that_was_overtaken_while_it_waited_for_its_latches_writes_nothing(
    status: TransactionStatus,
) -> None:
    scene = in_state(status)
    scene.part(HeartbeatTransaction(b"a"))
    first = scene.record()
    assert first is not None
    scene.now = Timestamp(first.heartbeat + 5)
    scene.waited = Timestamp(5)
    overtaken = scene.part(HeartbeatTransaction(b"a"))
    assert (status_of(overtaken), overtaken.changes) == (status, None)
    scene.waited = Timestamp(4)
    assert scene.part(HeartbeatTransaction(b"a")).changes is not None
    again = scene.record()
    assert again is not None
    assert again.heartbeat == scene.now


@pytest.mark.parametrize("leads_anew", [False, True])
def test_h1_a_version_at_the_anchor_comes_before_any_record(leads_anew: bool) -> None:
    """A commit in one phase leaves no record: who asks finds its version instead."""
    scene = Scene()
    scene.one_phase({b"a": b"1"}, at=50)
    if leads_anew:
        scene.new_leader()
    for outcome in (
        push(scene, laid_at=0, force=True),
        scene.finish(STAGING, 60, A),
        scene.finish(ABORTED),
        scene.part(HeartbeatTransaction(b"a")),
        scene.ask(QueryTransaction(b"a", meta().id)),
    ):
        record = record_of(outcome)
        assert record is not None
        assert (record.status, record.timestamp) == (COMMITTED, 50)
        assert outcome.changes is None


# -- S18, H2: what is older than garbage -----------------------------------------------------------


def test_h2_below_the_garbage_threshold_nobody_is_told_that_it_was_aborted() -> None:
    for status in (None, ABORTED):
        scene = in_state(status)
        scene.gc_threshold = Timestamp(10)
        for outcome in (
            scene.finish(STAGING, 50, A, B),
            scene.finish(COMMITTED, 50, A, B),
            scene.finish(ABORTED),
            scene.part(HeartbeatTransaction(b"a")),
            scene.one_phase({b"c": b"1"}),
        ):
            assert code_of(outcome) == "outcome_unknown"
        assert stored(scene) is status


@pytest.mark.parametrize("status", [PENDING, STAGING, COMMITTED])
def test_s18_a_record_that_is_there_is_good_at_any_age(status: TransactionStatus) -> None:
    scene = in_state(status)
    scene.gc_threshold = Timestamp(10)
    assert status_of(scene.finish(COMMITTED, 50, A, B)) is COMMITTED


def test_h2_a_push_below_the_garbage_threshold_writes_nothing() -> None:
    scene = in_state(None)
    scene.gc_threshold = Timestamp(10)
    outcome = push(scene, laid_at=10, issued_at=10)
    assert status_of(outcome) is ABORTED
    assert outcome.changes is None
    outcome = push(scene, issued_at=10, kind=PushKind.TIMESTAMP, priority=1, push_to=60)
    assert status_of(outcome) is None
    assert outcome.changes is None


# -- pushes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ALL_STATES)
def test_who_shows_signs_of_life_is_not_pushed(status: TransactionStatus | None) -> None:
    scene = in_state(status)
    outcome = push(scene, laid_at=scene.now)
    assert status_of(outcome) is status
    assert outcome.changes is None


@pytest.mark.parametrize("status", ALL_STATES)
def test_who_shows_none_is_aborted_unless_it_may_have_committed(
    status: TransactionStatus | None,
) -> None:
    scene = in_state(status)
    laid_at = scene.now
    scene.now = Timestamp(scene.now + EXPIRY)
    assert status_of(push(scene, laid_at=laid_at)) is status, "to the last moment"
    scene.now = Timestamp(scene.now + 1)
    outcome = push(scene, laid_at=laid_at)
    expected = {None: ABORTED, PENDING: ABORTED, STAGING: STAGING}
    assert status_of(outcome) is expected.get(status, status)
    result = outcome.results[0]
    assert isinstance(result, RecordResult)
    assert result.has_expired == (status is STAGING), "somebody has to recover it"
    assert stored(scene) is expected.get(status, status)


def test_a_lock_and_a_heartbeat_are_signs_of_life() -> None:
    scene = in_state(None)
    laid_at = Timestamp(scene.now + 5_000)
    scene.now = Timestamp(laid_at + EXPIRY)
    assert status_of(push(scene, laid_at=laid_at)) is None
    scene.part(HeartbeatTransaction(b"a"))
    scene.now = Timestamp(scene.now + EXPIRY)
    assert status_of(push(scene, laid_at=laid_at)) is PENDING
    scene.now = Timestamp(scene.now + 1)
    assert status_of(push(scene, laid_at=scene.now)) is PENDING, "it has laid something since"


@pytest.mark.parametrize("status", ALL_STATES)
def test_force_and_a_higher_priority_abort_what_has_not_begun_to_commit(
    status: TransactionStatus | None,
) -> None:
    expected = {None: ABORTED, PENDING: ABORTED}
    for force, priority in ((True, 0), (False, 1)):
        scene = in_state(status)
        outcome = push(scene, force=force, priority=priority)
        assert status_of(outcome) is expected.get(status, status)


def test_who_aborts_by_force_says_why() -> None:
    record = record_of(push(in_state(None), force=True, reason="a circle"))
    assert record is not None
    assert record.reason == "a circle"


def test_h3_a_push_of_the_timestamp_leaves_it_above_the_pushers() -> None:
    for status in (None, PENDING):
        scene = in_state(status)
        outcome = push(scene, kind=PushKind.TIMESTAMP, priority=1, push_to=60)
        record = record_of(outcome)
        assert record is not None
        assert (record.status, record.timestamp) == (PENDING, 61)
        for wanted in (STAGING, COMMITTED):
            refused = scene.finish(wanted, 60, A, B)
            assert code_of(refused) == "transaction_pushed"
            assert refused.error is not None
            assert refused.error.facts["timestamp"] == 61
        again = push(scene, kind=PushKind.TIMESTAMP, priority=1, push_to=60)
        assert again.changes is None
        higher = record_of(push(scene, kind=PushKind.TIMESTAMP, priority=1, push_to=61))
        assert higher is not None
        assert higher.timestamp == 62, "the same time is not above"
        assert status_of(scene.finish(STAGING, 62, A, B)) is STAGING


def test_a_push_is_no_sign_of_life() -> None:
    scene = in_state(None)
    laid_at = Timestamp(scene.now - EXPIRY)
    push(scene, laid_at=laid_at, kind=PushKind.TIMESTAMP, priority=1, push_to=60)
    record = scene.record()
    assert record is not None
    assert record.heartbeat == laid_at
    scene.now = Timestamp(scene.now + 1)
    assert status_of(push(scene, laid_at=laid_at)) is ABORTED


def test_who_is_aborted_is_as_old_as_its_record_says() -> None:
    """S18: a record goes when its transaction, not its pusher, is older than the threshold."""
    scene = in_state(PENDING)
    scene.gc_threshold = Timestamp(10)
    push(scene, issued_at=500, force=True)
    record = scene.record()
    assert record is not None
    assert (record.status, record.issued_at) == (ABORTED, 10)


def test_no_push_turns_what_is_staged_back_to_pending() -> None:
    """Pitfall (f): it may have committed; its recovery must find it as it was staged."""
    for kind in PushKind:
        scene = in_state(STAGING)
        outcome = push(scene, kind=kind, priority=1, push_to=60)
        assert outcome.changes is None
        record = record_of(outcome)
        assert record is not None
        assert (record.status, record.timestamp) == (STAGING, 50)


def test_a_push_of_the_timestamp_needs_a_higher_priority() -> None:
    scene = in_state(None)
    assert push(scene, kind=PushKind.TIMESTAMP, push_to=60).changes is None


# -- recovery --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ALL_STATES)
@pytest.mark.parametrize("committed", [True, False])
def test_a9_recovery_decides_only_what_it_has_looked_at(
    status: TransactionStatus | None, committed: bool
) -> None:
    scene = in_state(status)
    for at in (49, 51):
        assert recover(scene, at, committed=committed).changes is None
    outcome = recover(scene, 50, committed=committed)
    if status is not STAGING:
        assert outcome.changes is None
        assert status_of(outcome) is status
        return
    assert status_of(outcome) is (COMMITTED if committed else ABORTED)
    assert outcome.ended == record_of(outcome)
    assert outcome.unresolved == (b"a", b"b")
    assert recover(scene, 50, committed=not committed).changes is None, "for good"


def test_a_record_is_of_one_transaction() -> None:
    scene = in_state(STAGING)
    other = TransactionMeta(b"x" * 16, b"a")
    end = EndTransaction(b"a", ABORTED)
    assert status_of(scene.part(end, txn=other)) is ABORTED
    assert stored(scene) is STAGING
    assert intents.get(scene.reader, b"a") is not None
