"""How rare situations are noticed from outside: on the wire, in refusals, at calls of functions.

Purpose
    A probe names a situation that tests are meant to reach. Production code knows nothing of it:
    functions are wrapped while a simulation runs, and restored after it.
Invariants
    - A probe only looks: it changes no argument and no result, and lets every exception through.
    - Outside of `Watching` nothing is wrapped, so probes cost nothing then.
Source
    FoundationDB's "sometimes" assertions and CODE_PROBE; TigerBeetle's marks.
"""

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from multiraft import errors
from multiraft.client import pursuit
from multiraft.raft import dispatch
from multiraft.ranges import triggers
from multiraft.ranges.messages import GroupEnvelope

Look = Callable[..., bool]

REFUSAL = "multiraft.ranges.context:StoreContext.refusal"
"""Every error that a store answers with is made here."""

TABLES: tuple[dict[Any, Any], ...] = (
    dispatch.HANDLERS,
    dispatch.NEWER,
    dispatch.OLDER,
    triggers.PULL,
    pursuit.LESSONS,
)
"""Where functions are kept by reference: wrapped there too."""


class Called(msgspec.Struct, frozen=True):
    """A function was called, `module:attribute` by name.

    `before` is asked with its arguments when it is called, `after` with its result and its
    arguments when it has returned. Counted if both hold.
    """

    target: str
    before: Look | None = None
    after: Look | None = None


class Raised(msgspec.Struct, frozen=True):
    """A coroutine function has ended with an error of this type."""

    target: str
    error: type[BaseException]


class Said(msgspec.Struct, frozen=True):
    """A Raft message of this type left its store, for which `when` holds."""

    message: type
    when: Look | None = None


class Refused(msgspec.Struct, frozen=True):
    """A store answered a request with this error."""

    error: type[errors.MultiraftError]


Observation = Called | Raised | Said | Refused


class Probe(msgspec.Struct, frozen=True):
    """One situation: its name, what reaching it proves, and how it is noticed."""

    name: str
    proves: str
    seen_by: Observation


def resolve(target: str) -> tuple[Any, str, Any]:
    """Return the owner of `module:attribute`, the last name, and what it is there."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, vars(owner)[name]


class Watching:
    """The probes in force, until `end`."""

    def __init__(self, probes: Iterable[Probe], seen: Counter[str]) -> None:
        self._seen = seen
        self._undo: list[Callable[[], None]] = []
        self._said: dict[type, list[tuple[str, Look | None]]] = {}
        called: dict[str, list[Probe]] = {}
        for probe in probes:
            seen_by = probe.seen_by
            if isinstance(seen_by, Said):
                self._said.setdefault(seen_by.message, []).append((probe.name, seen_by.when))
            elif isinstance(seen_by, Refused):
                called.setdefault(REFUSAL, []).append(probe)
            else:
                called.setdefault(seen_by.target, []).append(probe)
        for target, group in called.items():
            self._wrap(target, group)

    def hear(self, _source: int, _life: int, _target: int, envelope: GroupEnvelope) -> None:
        """Take in a message. A Wiretap listener."""
        said = self._said.get(type(envelope.message))
        if said is not None:
            for name, when in said:
                if when is None or when(envelope.message):
                    self._seen[name] += 1

    def end(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    def _wrap(self, target: str, group: list[Probe]) -> None:
        owner, name, original = resolve(target)
        if any(isinstance(probe.seen_by, Raised) for probe in group):
            wrapped = self._awaited(original, group)
        else:
            wrapped = self._looked_at(original, group)
        setattr(owner, name, wrapped)
        self._undo.append(lambda: setattr(owner, name, original))
        for table in TABLES:
            for key, function in table.items():
                if function is original:
                    table[key] = wrapped
                    self._undo.append(functools.partial(table.__setitem__, key, original))

    def _looked_at(self, original: Callable[..., Any], group: list[Probe]) -> Callable[..., Any]:
        looks = [(probe.name, *_looks(probe.seen_by)) for probe in group]
        early = [(name, before, after) for name, before, after in looks if before is not None]
        late = [(name, after) for name, before, after in looks if before is None]
        seen = self._seen

        @functools.wraps(original)
        def looked_at_late(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            result = original(*arguments, **named)
            for name, after in late:
                if after is None or after(result, *arguments, **named):
                    seen[name] += 1
            return result

        @functools.wraps(original)
        def looked_at(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            held: list[tuple[str, Look | None]] = []
            for name, before, after in early:
                if before(*arguments, **named):
                    held.append((name, after))
            result = original(*arguments, **named)
            for name, after in late:
                if after is None or after(result, *arguments, **named):
                    seen[name] += 1
            for name, after in held:
                if after is None or after(result, *arguments, **named):
                    seen[name] += 1
            return result

        return looked_at if early else looked_at_late

    def _awaited(self, original: Callable[..., Any], group: list[Probe]) -> Callable[..., Any]:
        seen = self._seen

        @functools.wraps(original)
        async def awaited(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            try:
                return await original(*arguments, **named)
            except BaseException as error:
                for probe in group:
                    assert isinstance(probe.seen_by, Raised), "one kind of probe for a coroutine"
                    if isinstance(error, probe.seen_by.error):
                        seen[probe.name] += 1
                raise

        return awaited


def _looks(seen_by: Observation) -> tuple[Look | None, Look | None]:
    if isinstance(seen_by, Refused):
        error = seen_by.error
        return (lambda _context, answered: isinstance(answered, error)), None
    assert isinstance(seen_by, Called), "what is said is heard, what raises is awaited"
    return seen_by.before, seen_by.after
