"""A transaction over two keys, its coordinator, pushers and a reader: all that can happen.

Purpose
    The states of `server.py` and `clients.py` together, and what must hold in them. The network
    keeps every request for ever, so each may come late, twice, or never; an answer may be lost.
    Requests are looked at in any order, so an answer may as well be taken at once.
Invariants
    See `check`. And from every state, whoever pushes alone brings the transaction to its end.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from tests.transactions import server
from tests.transactions.clients import (
    IDLE,
    TOLD_ABORTED,
    TOLD_UNKNOWN,
    Coordinator,
    Phase,
    Reader,
    Recovery,
    RecoveryPhase,
    Setup,
    recovery_of,
)
from tests.transactions.explorer import Explored, Step, explore
from tests.transactions.rules import RULES, Rules
from tests.transactions.server import (
    ABORTED,
    COMMITTED,
    KEYS,
    STAGING,
    Outcome,
    Push,
    Ranges,
    Request,
    Stands,
)

UNDECIDED = 0
GONE = -1
"""Aborted for good."""


class State(NamedTuple):
    """All of it."""

    ranges: Ranges
    sent: frozenset[Request] = frozenset()
    coordinator: Coordinator = Coordinator()
    pushers: tuple[Recovery, ...] = ()
    reader: Reader = Reader()
    fate: int = UNDECIDED
    """What was decided once: the timestamp of the commit, or GONE."""


class Model:
    """One setup under some rules."""

    def __init__(self, setup: Setup, rules: Rules = RULES) -> None:
        self.setup = setup
        self.rules = rules
        self.settled: Callable[[Ranges], Ranges] = lru_cache(None)(self._settled)
        self.evaluated: dict[tuple[Ranges, Request], tuple[Outcome, ...]] = {}
        """Everything that was asked of ranges, and what may have come of it."""

    def explore(self) -> Explored:
        """Look at all states. Raises CounterexampleError."""
        ranges = Ranges(are_one=self.setup.is_one_phase)
        initial = State(ranges, pushers=(IDLE,) * self.setup.pushers)
        return explore((initial,), self.steps, self.check)

    def evaluate(self, ranges: Ranges, request: Request) -> tuple[Outcome, ...]:
        """Return what may come of a request."""
        outcomes = self.evaluated.get((ranges, request))
        if outcomes is None:
            outcomes = tuple(server.evaluate(ranges, request, self.rules))
            self.evaluated[ranges, request] = outcomes
        return outcomes

    # -- what can happen -------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield every step that somebody can take."""
        for request in state.sent:
            for ranges, reply in self.evaluate(state.ranges, request):
                after = self._evaluated(state, ranges)
                name = f"{request} -> {reply}"
                if ranges is not state.ranges:
                    yield Step(f"{name}, answer lost", after)
                for who, following in self._answered(after, request, reply):
                    yield Step(f"{name}, told to {who}", following)
        for label, coordinator, sent in state.coordinator.next_steps(self.setup, self.rules):
            yield Step(label, state._replace(coordinator=coordinator, sent=state.sent.union(sent)))
        yield from self._reads(state)
        yield from self._pushes(state)
        yield from self._of_the_world(state)

    def _evaluated(self, state: State, ranges: Ranges) -> State:
        """Return the state with other ranges; a final record has its intents resolved."""
        if ranges is state.ranges:
            return state
        sent = state.sent.union(server.resolvers(ranges.record))
        fate = state.fate or truth(ranges)
        return state._replace(ranges=ranges, sent=sent, fate=fate)

    def _answered(
        self, state: State, request: Request, reply: server.Reply
    ) -> Iterator[tuple[str, State]]:
        if state.coordinator.waits_for(request, self.setup):
            coordinator, sent = state.coordinator.answered(request, reply, self.setup, self.rules)
            sent_by_all = state.sent.union(sent)
            yield "the coordinator", state._replace(coordinator=coordinator, sent=sent_by_all)
        for place, pusher in enumerate(state.pushers):
            if pusher.request == request:
                yield (
                    f"pusher {place}",
                    self._pusher(state, place, pusher.answered(reply, self.rules)),
                )
        if state.reader.request == request:
            yield "the reader", state._replace(reader=state.reader.answered(reply, self.rules))

    def _pusher(self, state: State, place: int, pusher: Recovery) -> State:
        pushers = [*state.pushers[:place], pusher, *state.pushers[place + 1 :]]
        request = pusher.request
        return state._replace(
            pushers=tuple(sorted(pushers, key=_by_phase)),  # They are all alike.
            sent=state.sent if request is None else state.sent | {request},
        )

    def _reads(self, state: State) -> Iterator[Step[State]]:
        reader = state.reader
        for label, ranges, following in reader.next_reads(state.ranges, self.setup, self.rules):
            yield Step(label, state._replace(ranges=ranges, reader=following))
        if self.setup.reader_pushes and reader.request and None in reader.seen:
            yield Step(
                f"reader: {reader.request}", state._replace(sent=state.sent | {reader.request})
            )

    def _pushes(self, state: State) -> Iterator[Step[State]]:
        is_in_the_way = any(state.ranges.intents) or self.setup.is_one_phase
        for place, pusher in enumerate(state.pushers):
            if pusher == IDLE and is_in_the_way:
                following = pusher._replace(phase=RecoveryPhase.PUSHING)
                yield Step(f"pusher {place}: Push()", self._pusher(state, place, following))
                return  # The others that are idle would do the same.

    def _of_the_world(self, state: State) -> Iterator[Step[State]]:
        ranges = state.ranges
        if ranges.are_one and state.coordinator.phase != Phase.BEGUN:
            yield Step("the range is split", state._replace(ranges=ranges._replace(are_one=False)))
        if self.setup.collects and not ranges.is_collected and state.fate:
            has_intents = any(ranges.intents) and self.rules.record_outlives_intents
            if not has_intents:
                # All versions were overwritten long ago, and go with the record.
                collected = ranges._replace(record=None, versions=(None, None), is_collected=True)
                yield Step("garbage collection", state._replace(ranges=collected))

    # -- what must hold --------------------------------------------------------------------------

    def check(self, before: State, after: State) -> None:
        """Raise AssertionError if a step, or where it leads, must not be."""
        ranges, fate, told = after.ranges, after.fate, after.coordinator.told
        now = truth(ranges)
        if fate > 0:
            assert now == fate or ranges.is_collected, "a commit was undone"
            assert now in (0, fate, GONE) or not ranges.is_collected, "it committed again"
        if fate == GONE:
            assert now <= 0, "what was aborted committed"
        for key, version in enumerate(ranges.versions):
            if version is not None:
                assert fate == version.timestamp, "a write became a version without its commit"
                assert self._is_last(key, version), "an overwritten write became a version"
                is_aborted = ranges.record is not None and ranges.record.status == ABORTED
                assert not is_aborted or self.setup.is_one_phase, "both committed and aborted"
        if told > 0:
            assert fate == told, "an acknowledged commit did not happen"
        if told == TOLD_ABORTED:
            assert fate <= 0, "what is run again has committed"
        if told == TOLD_UNKNOWN:
            assert ranges.is_collected, "unknown within the window"
        if fate > 0 and not ranges.is_collected:
            assert self._has_all(ranges, fate), "a commit lacks a write"
        self._check_reader(after)
        if before.ranges is not ranges:
            self._check_progress(ranges, fate)

    def _is_last(self, key: int, write: server.Write) -> bool:
        return any(ref == (key, write.sequence) for ref in self.setup.writes)

    def _has_all(self, ranges: Ranges, fate: int) -> bool:
        return all(
            write is not None and write.timestamp <= fate and self._is_last(key, write)
            for key, write in ((key, ranges.versions[key] or ranges.intents[key]) for key in KEYS)
        )

    def _check_reader(self, state: State) -> None:
        seen, fate = state.reader.seen, state.fate
        for is_there in seen:
            if is_there is True:
                assert 0 < fate <= state.reader.timestamp, "a read of what is not committed"
            if is_there is False and fate > 0:
                assert fate > state.reader.timestamp, "a read missed what committed below it"
        assert None in seen or seen[0] == seen[1], "a reader saw half of the writes"

    def _check_progress(self, ranges: Ranges, fate: int) -> None:
        settled = self.settled(ranges)
        assert settled.intents == (None, None), "no pusher can bring it to its end"
        assert not (fate > 0 and not ranges.is_collected) or truth(settled) == fate, (
            "who comes alone to a commit undoes it"
        )

    def _settled(self, ranges: Ranges) -> Ranges:
        """Return what a pusher that nobody disturbs makes of them."""
        if not any(ranges.intents):
            return ranges
        ranges, reply = self.evaluate(ranges, Push())[-1]
        assert isinstance(reply, Stands)
        record = reply.record
        if record is not None and record.status == STAGING:
            recovery = recovery_of(record)
            while (request := recovery.request) is not None:
                ranges, reply = self.evaluate(ranges, request)[-1]
                recovery = recovery.answered(reply, self.rules)
        for request in server.resolvers(ranges.record):
            ((ranges, _),) = self.evaluate(ranges, request)
        return ranges


def truth(ranges: Ranges) -> int:
    """Return what is decided: the timestamp of the commit, GONE, or UNDECIDED."""
    record = ranges.record
    for version in ranges.versions:
        if version is not None:
            return version.timestamp
    if record is None:
        return UNDECIDED
    if record.status == COMMITTED:
        return record.timestamp
    if record.status == ABORTED:
        return GONE
    if record.status == STAGING and all(
        server.proves(ranges, ref, record.timestamp, RULES) for ref in record.writes
    ):
        return record.timestamp
    return UNDECIDED


def _by_phase(pusher: Recovery) -> tuple[str, int, int, bool]:
    return pusher.phase.value, pusher.timestamp, len(pusher.writes), pusher.has_all
