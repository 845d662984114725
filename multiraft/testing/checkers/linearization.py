"""The search for an order of the operations on one key that explains every answer.

Purpose
    Search just in time: walk through the invocations and returns, and let an operation take
    effect only when it must, at its own return or to make another's answer possible. What was tried
    is remembered as (position, state, who took effect already), so nothing is tried twice.
Invariants
    - Each short cut keeps an order if there is one:
      what never changes the state takes effect as soon as it can; of operations with the same
      effect, the one that returns first goes first; a write that nobody can notice goes right
      before another write; a value still to be read is not left unless it can be written again.
    - The search ends within its budget, decided or not.
Source
    Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for
    linearizability" (2017), section 5, just-in-time linearization; Horn and Kroening, "Faster
    linearizability checking via P-compositionality" (2015).
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from multiraft.testing.checkers import zones
from multiraft.testing.checkers.effects import (
    ADD,
    IMPOSSIBLE,
    JUNK,
    MISMATCH,
    READ,
    WRITE,
    Action,
    Effect,
)

_JUNK_WRITE = Effect(WRITE, value=JUNK)


class Budget:
    """How many more steps all searches together may take."""

    __slots__ = ("steps",)

    def __init__(self, steps: int) -> None:
        self.steps = steps


class Result(NamedTuple):
    """How a search ended."""

    explained: bool
    undecided: bool = False
    stuck_at: Action | None = None
    """The operation whose return no order reaches."""
    states: tuple[Any, ...] = ()
    """What the key could hold right before that return."""


class _Item:
    """An action with its place in the walk."""

    __slots__ = (
        "action",
        "apply",
        "bit",
        "effect",
        "invoked_at",
        "is_optional",
        "only_looks",
        "returns_at",
    )

    def __init__(self, action: Action) -> None:
        self.action = action
        self.effect = action.effect
        self.apply = action.effect.apply
        self.is_optional = action.is_optional
        self.only_looks = action.effect.kind in (READ, MISMATCH)
        self.bit = 0
        """Unique among those that are pending at one position."""
        self.invoked_at = 0
        self.returns_at = 0


class _Point(NamedTuple):
    """A point of the search: everything before `position` is explained."""

    position: int
    state: Any
    taken: int
    """Bits of the pending operations that took effect."""
    taken_optional: int
    """Bits of the operations of unknown outcome that took effect."""


def search(actions: Sequence[Action], budget: Budget, *, look_ahead: bool = True) -> Result:
    """Look for an order, from an absent key on.

    With `look_ahead` a dead end may be seen before it is reached, and `stuck_at` may be early or
    missing.
    """
    if look_ahead:
        known = zones.judge(actions)
        if known is not None:
            budget.steps -= len(actions)
            return Result(known)
        if any(action.effect.kind == MISMATCH for action in actions):
            easier = _search_around_mismatches(actions, budget)
            if easier is not None:
                return easier
    return _Search(actions, budget, look_ahead=look_ahead).run()


def _search_around_mismatches(actions: Sequence[Action], budget: Budget) -> Result | None:
    """Try what is quick where conditions failed, or return None.

    Failed conditions nearly always find a place. So without them there is mostly no order either;
    and there mostly is one that does not keep writes back for their sake.
    """
    others = [action for action in actions if action.effect.kind != MISMATCH]
    without = search(others, budget)
    if not without.explained:
        return without
    share = Budget(budget.steps // 2)
    budget.steps -= share.steps
    carefree = _Search(actions, share, look_ahead=True, keeps_junk=False).run()
    budget.steps += max(share.steps, 0)
    return carefree if carefree.explained else None


class _Search:
    def __init__(
        self,
        actions: Sequence[Action],
        budget: Budget,
        *,
        look_ahead: bool,
        keeps_junk: bool = True,
    ) -> None:
        self._budget = budget
        items = [_Item(action) for action in actions]
        self._events = _events(items)
        self._optional = sorted(
            (item for item in items if item.is_optional), key=lambda item: item.invoked_at
        )
        self._pending = _place(self._events, self._optional)
        # For the rule that a value still to be read is not left.
        self._last_observed: dict[Any, int] = {}
        self._last_written: dict[Any, int] = {}
        self._looks_ahead = look_ahead
        # A failed condition may need a write that nobody read, later than at the first chance.
        self._junk_is_unnoticed = not keeps_junk or all(
            item.effect.kind != MISMATCH for item in items
        )
        for item in items:
            effect = item.effect
            if effect.kind == ADD and effect.expected is None:
                self._looks_ahead = False  # It could leave any number.
            if not item.is_optional:
                _raise_to(self._last_observed, effect.observes, item.invoked_at)
            _raise_to(self._last_written, effect.leaves, item.invoked_at)

    def run(self) -> Result:
        self._budget.steps -= len(self._events)
        if self._budget.steps < 0:
            return Result(False, undecided=True)
        start = self._advance(_Point(0, None, 0, 0))
        stack = [start]
        tried: set[_Point] = set()
        deepest, states = start.position, {start.state: None}
        while stack:
            point = stack.pop()
            if point.position == len(self._events):
                return Result(True)
            if point in tried:
                continue
            tried.add(point)
            if point.position >= deepest:
                if point.position > deepest:
                    deepest, states = point.position, {}
                states[point.state] = None
            following = list(self._following(point))
            self._budget.steps -= 1 + len(following)
            if self._budget.steps < 0:
                return Result(False, undecided=True)
            stack.extend(reversed(following))
        return Result(False, stuck_at=self._events[deepest][1].action, states=tuple(states))

    def _advance(self, point: _Point) -> _Point:
        """Go on to the next return of an operation that did not take effect yet."""
        position, state, taken, taken_optional = point
        events = self._events
        while position < len(events):
            is_return, item = events[position]
            if is_return:
                if not taken & item.bit:
                    break
                taken ^= item.bit
            elif not item.is_optional and self._goes_at_once(item, state):
                taken |= item.bit
            position += 1
        return _Point(position, state, taken, taken_optional)

    def _following(self, point: _Point) -> Iterator[_Point]:
        """Yield the points that one more operation leads to, the most promising first."""
        waiting = [i for i in self._pending[point.position] if not point.taken & i.bit]
        optional = [
            item
            for item in self._optional
            if item.invoked_at < point.position and not point.taken_optional & item.bit
        ]
        forced = self._events[point.position][1]
        choices: dict[Effect, _Item] = {}
        for item in (*waiting, *optional):
            other = choices.get(item.effect)
            if other is None or item.returns_at < other.returns_at:
                choices[item.effect] = item
        ranked = []
        for item in choices.values():
            state = item.apply(point.state)
            if state is IMPOSSIBLE or item.only_looks:
                continue  # The latter is taken as soon as it can be.
            if state == point.state:
                if item.is_optional:
                    continue
            elif self._must_stay(point, item, choices):
                continue
            serves = item is forced or forced.apply(state) is not IMPOSSIBLE
            ranked.append((item is not forced, not serves, item.returns_at, item.invoked_at, item))
        ranked.sort(key=lambda entry: entry[:4])
        for *_, item in ranked:
            yield self._take(point, item, waiting)

    def _must_stay(self, point: _Point, item: _Item, choices: dict[Effect, _Item]) -> bool:
        """Whether the state is still to be read, and could not be written again."""
        if not self._looks_ahead:
            return False
        if self._last_observed.get(point.state, -1) < point.position:
            return False
        if self._last_written.get(point.state, -1) > point.position:
            return False
        return not any(
            other is not item and other.effect.leaves == point.state for other in choices.values()
        )

    def _take(self, point: _Point, item: _Item, waiting: list[_Item]) -> _Point:
        position, state, taken, taken_optional = point
        if item.effect.kind == WRITE and self._junk_is_unnoticed:
            for other in waiting:
                if other.effect == _JUNK_WRITE:
                    taken |= other.bit
        state = item.apply(state)
        if item.is_optional:
            taken_optional |= item.bit
        else:
            taken |= item.bit
        for other in waiting:
            if self._goes_at_once(other, state):
                taken |= other.bit
        return self._advance(_Point(position, state, taken, taken_optional))

    def _goes_at_once(self, item: _Item, state: Any) -> bool:  # noqa: ANN401
        """Whether nothing can be gained if it takes effect later."""
        if item.only_looks:
            return item.apply(state) is not IMPOSSIBLE
        return state is JUNK and item.effect == _JUNK_WRITE and self._junk_is_unnoticed


def _raise_to(positions: dict[Any, int], value: Any, position: int) -> None:  # noqa: ANN401
    if value is not IMPOSSIBLE and positions.get(value, -1) < position:
        positions[value] = position


def _events(items: list[_Item]) -> list[tuple[bool, _Item]]:
    """Return all invocations and returns in order; at one moment, invocations come first."""
    moments = []
    for item in items:
        operation = item.action.operation
        moments.append((operation.invoked, False, operation.id, item))
        if not item.is_optional:
            moments.append((operation.deadline, True, operation.id, item))
    moments.sort(key=lambda moment: moment[:3])
    for item in items:
        item.returns_at = len(moments)
    for position, (_, is_return, _, item) in enumerate(moments):
        if is_return:
            item.returns_at = position
        else:
            item.invoked_at = position
    return [(is_return, item) for _, is_return, _, item in moments]


def _place(events: list[tuple[bool, _Item]], optional: list[_Item]) -> dict[int, tuple[_Item, ...]]:
    """Give each item its bit; return who is pending at each return."""
    for number, item in enumerate(optional):
        item.bit = 1 << number
    pending: dict[int, tuple[_Item, ...]] = {}
    open_items: dict[_Item, None] = {}
    free: list[int] = []
    for position, (is_return, item) in enumerate(events):
        if item.is_optional:
            continue
        if is_return:
            pending[position] = tuple(open_items)
            del open_items[item]
            heapq.heappush(free, item.bit)
        else:
            item.bit = heapq.heappop(free) if free else 1 << len(open_items)
            open_items[item] = None
    return pending
