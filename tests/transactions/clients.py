"""The coordinator of a transaction, those in whose way it is, and those who read what it writes.

Purpose
    What each of them does of its own accord, and what it does when it is answered. A client that
    has crashed is one that does nothing more: no step is ever forced.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from tests.transactions.rules import Rules
from tests.transactions.server import (
    ABORTED,
    ANCHOR,
    COMMITTED,
    KEYS,
    OTHER,
    PENDING,
    STAGING,
    Abort,
    Commit,
    Found,
    Heartbeat,
    Laid,
    Lay,
    Mismatch,
    OnePhase,
    Push,
    Pushed,
    PushTimestamp,
    Query,
    Ranges,
    Record,
    Recover,
    Ref,
    Reply,
    Request,
    Stage,
    Stands,
    Unknown,
)

NOTHING = 0
TOLD_ABORTED = -1
TOLD_UNKNOWN = -2

BEGUN_AT = 1
"""The read timestamp of the transaction, and the first at which it tries to commit."""


class Setup(NamedTuple):
    """What a model has in it."""

    pushers: int = 1
    reads_at: tuple[int, ...] = (2,)
    """At which timestamp the reader may read both keys."""
    restages_max: int = 1
    is_pipelined: bool = False
    """Both keys are first written by intents of sequence 1; the commit replaces the other's."""
    has_heartbeat: bool = False
    is_one_phase: bool = False
    reader_pushes: bool = False
    """The reader has the higher priority."""
    collects: bool = False
    """Finished records are garbage-collected."""

    @property
    def writes(self) -> tuple[Ref, ...]:
        """What a record names."""
        return Ref(ANCHOR, 1), Ref(OTHER, 2 if self.is_pipelined else 1)


class RecoveryPhase(Enum):
    """What a pusher is doing."""

    IDLE = "idle"
    PUSHING = "pushing"
    QUERYING = "querying"
    DECIDING = "deciding"


class Recovery(NamedTuple):
    """One who finds the transaction in its way."""

    phase: RecoveryPhase = RecoveryPhase.IDLE
    timestamp: int = 0
    writes: tuple[Ref, ...] = ()
    """Those that are still to be asked for."""
    has_all: bool = True

    @property
    def request(self) -> Request | None:
        """What it waits for an answer to."""
        match self.phase:
            case RecoveryPhase.PUSHING:
                return Push()
            case RecoveryPhase.QUERYING:
                return Query(self.writes[0], self.timestamp)
            case RecoveryPhase.DECIDING:
                return Recover(self.timestamp, self.has_all)
            case RecoveryPhase.IDLE:
                return None

    def answered(self, reply: Reply, rules: Rules) -> "Recovery":
        """Return what it does next. A final answer ends it; whoever writes that resolves."""
        if isinstance(reply, Found):
            following = self._replace(writes=self.writes[1:], has_all=self.has_all and reply.found)
            if not following.has_all or not following.writes or not rules.recovery_asks_for_all:
                return following._replace(phase=RecoveryPhase.DECIDING, writes=())
            return following
        assert isinstance(reply, Stands)
        record = reply.record
        if self.phase == RecoveryPhase.PUSHING and record and record.status == STAGING:
            return recovery_of(record)
        return IDLE


IDLE = Recovery()


def recovery_of(record: Record) -> Recovery:
    """Return the beginning of the recovery of a record that is STAGING."""
    return Recovery(RecoveryPhase.QUERYING, record.timestamp, record.writes)


class Reader(NamedTuple):
    """A transaction of somebody else that reads both keys at one timestamp."""

    timestamp: int = 0
    seen: tuple[bool | None, ...] = (None, None)
    """Of each key: whether the write was there."""
    is_passing: bool = False
    """The transaction was pushed above the timestamp: its intents hide nothing."""

    def next_reads(
        self, ranges: Ranges, setup: Setup, rules: Rules
    ) -> Iterator[tuple[str, Ranges, "Reader"]]:
        """Yield what it may do next."""
        timestamp = self.timestamp
        if not timestamp:
            for chosen in setup.reads_at:
                yield f"reader: begins at {chosen}", ranges, self._replace(timestamp=chosen)
            return
        for key in KEYS:
            if ranges.is_collected or self.seen[key] is not None or self._waits(ranges, key, rules):
                continue
            version = ranges.versions[key]
            is_there = version is not None and version.timestamp <= timestamp
            seen = (is_there, self.seen[1]) if key == 0 else (self.seen[0], is_there)
            label = f"reader: key {key} at {timestamp}: {'there' if is_there else 'not there'}"
            yield label, ranges.with_read(key, timestamp), self._replace(seen=seen)

    def _waits(self, ranges: Ranges, key: int, rules: Rules) -> bool:
        intent = ranges.intents[key]
        return (
            intent is not None
            and intent.timestamp <= self.timestamp
            and not self.is_passing
            and rules.reads_wait_for_intents
        )

    @property
    def request(self) -> Request | None:
        """Its push, if it has begun."""
        return PushTimestamp(self.timestamp) if self.timestamp else None

    def answered(self, reply: Reply, rules: Rules) -> "Reader":
        """Return whether it may go on."""
        assert isinstance(reply, Stands)
        record = reply.record
        least = self.timestamp + rules.pushed_lies_above_the_reader
        can_pass = record is not None and record.status == PENDING and record.timestamp >= least
        return self._replace(is_passing=self.is_passing or can_pass)


class Phase(Enum):
    """How far the coordinator is."""

    BEGUN = "begun"
    ONE_PHASE = "one phase"
    COMMITTING = "committing"
    ENDING = "ending"
    RECOVERING = "recovering"
    OVER = "over"


class Coordinator(NamedTuple):
    """The client whose transaction it is."""

    phase: Phase = Phase.BEGUN
    timestamp: int = BEGUN_AT
    """At which it tries to commit."""
    failed: int = 0
    """The latest STAGING that cannot become true."""
    other_at: int = 0
    """Where the intent of the other key lies; 0: not known."""
    staged_at: int = 0
    """What STAGING was answered; 0: not yet."""
    restages: int = 0
    recovery: Recovery = IDLE
    told: int = NOTHING
    """What its caller was told: at which timestamp it has committed, or TOLD_*."""

    def waits_for(self, request: Request, setup: Setup) -> bool:
        """Return whether it takes an answer to that request."""
        match self.phase:
            case Phase.ONE_PHASE:
                return request == OnePhase(self.timestamp) or isinstance(request, Heartbeat)
            case Phase.COMMITTING:
                return (
                    (request == Stage(self.timestamp, setup.writes) and not self.staged_at)
                    or (request == _lay_other(setup) and not self.other_at)
                    or isinstance(request, Heartbeat)
                )
            case Phase.ENDING:
                return request == Abort(self.failed)
            case Phase.RECOVERING:
                return request == self.recovery.request
            case _:
                return False

    def next_steps(
        self, setup: Setup, rules: Rules
    ) -> Iterator[tuple[str, "Coordinator", tuple[Request, ...]]]:
        """Yield what it may do of its own accord: what it becomes, and what it sends."""
        if self.phase == Phase.BEGUN:
            if setup.is_one_phase:
                one = OnePhase(self.timestamp)
                sent = (one, Heartbeat()) if setup.has_heartbeat else (one,)
                yield f"coordinator: {one}", self._replace(phase=Phase.ONE_PHASE), sent
            else:
                yield self._commit(setup)
        if self.phase == Phase.COMMITTING and self.has_failed:
            needed = max(self.staged_at, self.other_at)
            if self.restages < setup.restages_max:
                again = self._replace(
                    timestamp=needed,
                    failed=self.timestamp,
                    staged_at=0,
                    restages=self.restages + 1,
                )
                stage = Stage(needed, setup.writes)
                yield f"coordinator: reads refreshed, {stage}", again, (stage,)
        if self.phase in (Phase.ONE_PHASE, Phase.COMMITTING):
            failed = self.timestamp if self.has_failed else self.failed
            if not rules.abort_needs_the_failed_staging:
                failed = self.timestamp
            if rules.end_before_the_next_attempt:
                end = Abort(failed)
                ending = self._replace(phase=Phase.ENDING, failed=failed)
                yield f"coordinator: gives up, {end}", ending, (end,)
            else:
                yield "coordinator: gives up, runs again", self._over(TOLD_ABORTED), ()

    @property
    def has_failed(self) -> bool:
        """Whether the present STAGING cannot become true."""
        return (
            self.phase == Phase.COMMITTING
            and bool(self.staged_at and self.other_at)
            and max(self.staged_at, self.other_at) > self.timestamp
        )

    def _commit(self, setup: Setup) -> tuple[str, "Coordinator", tuple[Request, ...]]:
        sent: list[Request] = [_lay_other(setup), Stage(self.timestamp, setup.writes)]
        if setup.is_pipelined:
            sent += [Lay(key, 1, self.timestamp) for key in KEYS]
        if setup.has_heartbeat:
            sent.append(Heartbeat())
        return (
            f"coordinator: commits in parallel at {self.timestamp}",
            self._replace(phase=Phase.COMMITTING),
            tuple(sent),
        )

    def answered(
        self, request: Request, reply: Reply, setup: Setup, rules: Rules
    ) -> tuple["Coordinator", tuple[Request, ...]]:
        """Return what it becomes by an answer, and what it sends."""
        if self.phase == Phase.RECOVERING:
            return self._recovered(reply, rules)
        match reply:
            case Unknown():
                return self._over(TOLD_UNKNOWN), ()
            case Mismatch():
                _, following, sent = self._commit(setup)
                return following, sent
            case Stands(record):
                return self._stands(record, request)
            case Pushed(needed) if self.phase == Phase.ONE_PHASE:
                if self.restages == setup.restages_max:
                    return self, ()
                again = self._replace(timestamp=needed, restages=self.restages + 1)
                return again, (OnePhase(needed),)
            case Pushed(timestamp) | Laid(timestamp):
                if isinstance(request, Stage):
                    return self._proved(self._replace(staged_at=timestamp), rules)
                return self._proved(self._replace(other_at=timestamp), rules)
        raise AssertionError(f"{request} is not answered by {reply}")

    def _proved(
        self, following: "Coordinator", rules: Rules
    ) -> tuple["Coordinator", tuple[Request, ...]]:
        """Tell the caller once all writes are known to lie at or below STAGING."""
        has_all = following.staged_at and following.other_at
        if not rules.commit_after_all_answers:
            has_all = following.staged_at
        if has_all and max(following.staged_at, following.other_at) <= self.timestamp:
            return self._over(self.timestamp), (Commit(self.timestamp),)
        return following, ()

    def _stands(
        self, record: Record | None, request: Request
    ) -> tuple["Coordinator", tuple[Request, ...]]:
        if record is not None and record.status == COMMITTED:
            return self._over(record.timestamp), ()
        if record is not None and record.status == ABORTED:
            return self._over(TOLD_ABORTED), ()
        if record is not None and record.status == STAGING and isinstance(request, Abort):
            recovery = recovery_of(record)
            return self._replace(phase=Phase.RECOVERING, recovery=recovery), _sent(recovery)
        return self, ()

    def _recovered(self, reply: Reply, rules: Rules) -> tuple["Coordinator", tuple[Request, ...]]:
        if isinstance(reply, Found):
            recovery = self.recovery.answered(reply, rules)
            return self._replace(recovery=recovery), _sent(recovery)
        assert isinstance(reply, Stands)
        record = reply.record
        if record is not None and record.status.is_final:
            return self._stands(record, Abort(self.failed))
        if record is None:
            return self._over(TOLD_UNKNOWN), ()
        # It stands STAGING at another timestamp: ask once more.
        return self._replace(phase=Phase.ENDING, recovery=IDLE), ()

    def _over(self, told: int) -> "Coordinator":
        return Coordinator(Phase.OVER, told=told)


def _lay_other(setup: Setup) -> Lay:
    return Lay(OTHER, 2 if setup.is_pipelined else 1, BEGUN_AT)


def _sent(recovery: Recovery) -> tuple[Request, ...]:
    request = recovery.request
    return () if request is None else (request,)
