"""Which stage of the work a process is in, and for how long: methods timed while somebody looks.

Purpose
    `watched` puts a timed version in the place of each method of a table, and `read` tells what the
    timed ones have counted. Nothing here knows what the methods do.
Invariants
    - While nobody looks, the methods are those that were written: they cost what they would cost
      without this module.
    - Each moment of the loop belongs to one stage, that of the innermost timed method, or to none.
      So the times of stages add up, and whatever they leave was spent outside all of them. Where a
      stage has to wait for a processor, or for the interpreter, it takes longer than it works.
    - What waits, or works in another thread, overlaps with the loop's stages and counts beside.
    - Several may look at once: readings only grow, and each takes the difference of two.
Ownership
    Methods belong to classes, so this is about a whole process, which has one loop. A method that
    something keeps bound (`partial(self.method)`) goes on as it was kept.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

Method = Callable[..., Any]
Size = Callable[..., int]
"""Called with the arguments of a method, `self` included."""


class Reading(msgspec.Struct, frozen=True):
    """What a stage has counted."""

    runs: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of those seconds, what was spent on a processor."""
    bytes_in: int = 0
    bytes_out: int = 0
    longest_s: float = 0.0
    """Of one run, since somebody began to look; told of what waits, of threads and of garbage."""

    def since(self, earlier: "Reading") -> "Reading":
        """Return what was counted after `earlier`, but for the longest run, which stays."""
        return Reading(
            self.runs - earlier.runs,
            self.seconds - earlier.seconds,
            self.cpu_s - earlier.cpu_s,
            self.bytes_in - earlier.bytes_in,
            self.bytes_out - earlier.bytes_out,
            self.longest_s,
        )


class Counter:
    """A Reading in the making."""

    __slots__ = ("bytes_in", "bytes_out", "cpu_s", "longest_s", "runs", "seconds")

    def __init__(self) -> None:
        self.runs = 0
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.longest_s = 0.0

    def took(self, seconds: float) -> None:
        """A run that did not have the loop to itself has ended."""
        self.runs += 1
        self.seconds += seconds
        self.longest_s = max(self.longest_s, seconds)

    def read(self) -> Reading:
        """Return what was counted so far."""
        return Reading(
            self.runs, self.seconds, self.cpu_s, self.bytes_in, self.bytes_out, self.longest_s
        )


class Watch:
    """Counts for one process. `now` returns seconds, `cpu` the calling thread's processor time."""

    def __init__(self, now: Callable[[], float], cpu: Callable[[], float]) -> None:
        self.now = now
        self.cpu = cpu
        self._counters: dict[str, Counter] = {}
        self._outside = Counter()
        self._current = self._outside
        self._since = now()
        self._cpu_since = cpu()

    def counter(self, stage: str) -> Counter:
        """Return the counter of a stage, new if it has none."""
        return self._counters.setdefault(stage, Counter())

    def restart(self) -> None:
        """The loop is outside all stages now, and nothing was counted for a while."""
        for counter in self._counters.values():
            counter.longest_s = 0.0
        self._current = self._outside
        self._since = self.now()
        self._cpu_since = self.cpu()

    def read(self) -> dict[str, Reading]:
        """Return what every stage has counted so far."""
        return {stage: counter.read() for stage, counter in self._counters.items()}

    def timed(self, method: Method, counter: Counter, size_in: Size, size_out: Size) -> Method:
        """Return `method` with the time that it takes, but for inner stages, counted.

        Within its own stage it is a part of the run that is under way.
        """

        def run(*arguments: Any) -> Any:  # noqa: ANN401
            outer = self._current
            if outer is counter:
                return method(*arguments)
            self._enter(counter)
            counter.runs += 1
            try:
                counter.bytes_in += size_in(*arguments)
                counter.bytes_out += size_out(*arguments)
                return method(*arguments)
            finally:
                self._enter(outer)

        return run

    def _enter(self, counter: Counter) -> None:
        """Close the account of the current stage, and go on with another."""
        now, cpu = self.now(), self.cpu()
        current = self._current
        current.seconds += now - self._since
        current.cpu_s += cpu - self._cpu_since
        self._since, self._cpu_since = now, cpu
        self._current = counter

    def sent_by_stage(self, method: Method, size: Size) -> Method:
        """Return `method` with the bytes that it is given counted as sent by the current stage."""

        def run(*arguments: Any) -> Any:  # noqa: ANN401
            self._current.bytes_out += size(*arguments)
            return method(*arguments)

        return run

    def until_called_back(self, method: Method, counter: Counter) -> Method:
        """Return `method` with the time counted until it calls back its one argument."""
        now = self.now

        def run(owner: object, done: Callable[..., None]) -> Any:  # noqa: ANN401
            began = now()

            def called_back(*arguments: Any) -> None:  # noqa: ANN401
                counter.took(now() - began)
                done(*arguments)

            return method(owner, called_back)

        return run

    def in_a_thread(self, method: Method, counter: Counter) -> Method:
        """Return `method`, which runs in a thread of its own, with its time counted."""
        now, cpu = self.now, self.cpu

        def run(*arguments: Any) -> Any:  # noqa: ANN401
            began, cpu_began = now(), cpu()
            try:
                return method(*arguments)
            finally:
                counter.took(now() - began)
                counter.cpu_s += cpu() - cpu_began

        return run


class Place(msgspec.Struct, frozen=True):
    """A method, and what takes its place."""

    owner: type
    method: str
    watched: Callable[[Watch, Method], Method]


def nothing(*_arguments: object) -> int:
    """Return 0: a Size where nobody counts bytes."""
    return 0


def stage(
    name: str, owner: type, method: str, *, size_in: Size = nothing, size_out: Size = nothing
) -> Place:
    """Return a place on the loop whose time belongs to the stage `name`."""

    def watched(watch: Watch, original: Method) -> Method:
        return watch.timed(original, watch.counter(name), size_in, size_out)

    return Place(owner, method, watched)


def sends(owner: type, method: str, size: Size) -> Place:
    """Return a place where the stage under way sends so many bytes."""
    return Place(owner, method, lambda watch, original: watch.sent_by_stage(original, size))


def waits(name: str, owner: type, method: str) -> Place:
    """Return a place that calls back what it is given when something has ended."""

    def watched(watch: Watch, original: Method) -> Method:
        return watch.until_called_back(original, watch.counter(name))

    return Place(owner, method, watched)


def threaded(name: str, owner: type, method: str) -> Place:
    """Return a place in a thread beside the loop."""

    def watched(watch: Watch, original: Method) -> Method:
        return watch.in_a_thread(original, watch.counter(name))

    return Place(owner, method, watched)


class Instruments:
    """The places of a process, and its watch. `garbage` is what its collections count under."""

    def __init__(self, places: Sequence[Place], garbage: str, watch: Watch) -> None:
        self._places = places
        self._watch = watch
        self._garbage = self._watch.counter(garbage)
        self._collecting_since = 0.0
        self._originals: list[tuple[Place, Method]] = []
        self._watchers = 0

    @property
    def is_watching(self) -> bool:
        """Whether anybody looks."""
        return self._watchers > 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count while the block lasts. Enter and leave it where no place is running."""
        if not self._watchers:
            self._install()
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._remove()

    def read(self) -> dict[str, Reading]:
        """Return what every stage has counted since the process began."""
        return self._watch.read()

    def _install(self) -> None:
        self._watch.restart()
        for place in self._places:
            original = vars(place.owner)[place.method]
            self._originals.append((place, original))
            setattr(place.owner, place.method, place.watched(self._watch, original))
        gc.callbacks.append(self._collecting)

    def _remove(self) -> None:
        gc.callbacks.remove(self._collecting)
        originals, self._originals = self._originals, []
        for place, original in originals:
            setattr(place.owner, place.method, original)

    def _collecting(self, phase: str, _information: dict[str, int]) -> None:
        now = self._watch.now()
        if phase == "start":
            self._collecting_since = now
        else:
            self._garbage.took(now - self._collecting_since)
