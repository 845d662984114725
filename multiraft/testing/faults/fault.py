"""A fault: what goes wrong, how often, and how it ends.

Purpose
    One episode hurts, waits, and heals. The runner runs many, of several faults at once.
Invariants
    - Whatever an episode hurts is a wound of its `Wounds`, which heal when it ends, also when it is
      cancelled, even while it heals.
    - Nothing is drawn but from the generator that an episode is given.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ClassVar

import msgspec

from multiraft.testing.completion import to_the_end
from multiraft.testing.target import Target

Undo = Callable[[], Awaitable[None]]


class Fault(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Settings of one kind of fault, as a spec gives them; see the module."""

    every_s: tuple[float, float] = (1.0, 5.0)
    """The runner waits that long between episodes."""

    needs_simulation: ClassVar[bool] = False
    """Whether real processes cannot be hurt so."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """Hurt, wait, heal; leaves no node down, frozen or cut."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its kind, as specs write it."""
        return str(type(self).__struct_config__.tag)

    def note(self, target: Target, detail: str) -> None:
        """Count this fault, under its kind."""
        target.note(self.name, detail)


class Wounds:
    """What one episode has hurt. On exit everything is healed, the last wound first."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._undos: list[Undo] = []
        self._down: dict[int, None] = {}
        self._starting: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> "Wounds":
        """See the class."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Heal, to the end, even if cancelled meanwhile."""
        await to_the_end(self._heal())

    async def _heal(self) -> None:
        for undo in reversed(self._undos):
            await undo()
        await asyncio.gather(*self._starting)
        await asyncio.gather(*(self._target.start(n) for n in self._down))

    async def heal_last(self) -> None:
        """Undo the last wound that is not a death."""
        await self._undos[-1]()
        self._undos.pop()

    def shuffle(self, rng: random.Random) -> None:
        """Let the wounds heal in another order."""
        rng.shuffle(self._undos)

    def add(self, undo: Undo) -> None:
        """Have `undo` called when the episode ends."""
        self._undos.append(undo)

    async def kill(self, *numbers: int) -> None:
        """Kill nodes, at one instant where that is possible."""
        for n in numbers:
            self.will_be_down(n)
            await self._target.kill(n)

    def will_be_down(self, n: int) -> None:
        """Start this node at the end if it has died by then."""
        self._down[n] = None

    async def start(self, n: int) -> None:
        """Start a killed node before the episode ends."""
        await self._target.start(n)

    def start_soon(self, n: int) -> None:
        """Start a killed node without waiting until it takes part: it may be killed before."""
        self._starting.append(asyncio.ensure_future(self._target.start(n)))

    async def freeze(self, n: int) -> None:
        """Freeze a node."""
        self.add(lambda: self._target.thaw(n))
        await self._target.freeze(n)

    async def isolate(self, n: int) -> None:
        """Isolate a node."""
        self.add(lambda: self._target.rejoin(n))
        await self._target.isolate(n)

    async def cut(self, a: int, b: int) -> None:
        """Cut the way from `a` to `b`."""
        self.add(lambda: self._target.heal(a, b))
        await self._target.cut(a, b)

    async def part(self, one: list[int], other: list[int]) -> None:
        """Cut both ways between every node of one group and every one of the other."""
        for a in one:
            for b in other:
                await self.cut(a, b)
                await self.cut(b, a)
