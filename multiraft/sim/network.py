"""What the links between simulated nodes do to the frames on them.

Purpose
    Say how long each batch of frames travels, and which are lost. Cuts and resets are the work of
    net/links.py; like TCP, a link loses a batch only together with its connection.
Invariants
    - Every number is drawn from the one generator that the conditions were given.
"""

import math
import random
from collections.abc import Iterable

import msgspec


class Delay(msgspec.Struct, frozen=True):
    """How long a batch travels: `least_s`, more by an exponential draw, and rarely much more."""

    least_s: float = 0.0
    jitter_s: float = 0.0
    """The mean of the exponential part."""
    tail_chance: float = 0.0
    tail_s: float = 0.0
    """The mean of what is added with `tail_chance`: a retransmission, a full queue."""
    bytes_per_s: float = 0.0
    """0: as fast as one likes."""

    def draw(self, rng: random.Random, size_bytes: int) -> float:
        """Return the delay of one batch in seconds."""
        delay_s = self.least_s
        if self.jitter_s:
            delay_s -= math.log(1.0 - rng.random()) * self.jitter_s
        if self.tail_chance and rng.random() < self.tail_chance:
            delay_s -= math.log(1.0 - rng.random()) * self.tail_s
        if self.bytes_per_s:
            delay_s += size_bytes / self.bytes_per_s
        return delay_s


class Trouble:
    """One thing that is wrong with links: its delay is added, and its loss comes on top.

    `pairs` is None for all of them.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]] | None,
        *,
        delay: Delay | None = None,
        loss: float = 0.0,
    ) -> None:
        self._pairs = None if pairs is None else frozenset(pairs)
        self.delay = delay
        self.loss = loss

    def concerns(self, pair: tuple[str, str]) -> bool:
        """Whether it is wrong with that direction."""
        return self._pairs is None or pair in self._pairs


AT_ONCE = Delay()
LAN = Delay(least_s=0.000_1, jitter_s=0.000_2)


class Conditions:
    """The state of all links; what is not set for a pair holds for all.

    Pairs are (source, destination), by name.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.delay = AT_ONCE
        self.delays: dict[tuple[str, str], Delay] = {}
        self.losses: dict[tuple[str, str], float] = {}
        """How likely a batch of frames is lost with its connection."""
        self.troubles: dict[Trouble, None] = {}
        """What makes links worse beyond that; several may hold at once."""
        self.lost = 0

    def link(self, source: str, destination: str) -> "ConditionedLink":
        """Return the link of that direction. A factory for InprocNetwork."""
        return ConditionedLink(self, (source, destination))


class ConditionedLink:
    """Implements links.Link."""

    __slots__ = ("_conditions", "_pair")

    def __init__(self, conditions: Conditions, pair: tuple[str, str]) -> None:
        self._conditions = conditions
        self._pair = pair

    def delay_s(self, size_bytes: int) -> float | None:
        """Return how long a batch of frames travels; None: it is lost with its connection."""
        conditions = self._conditions
        loss = conditions.losses.get(self._pair, 0.0) if conditions.losses else 0.0
        delay = conditions.delay
        if conditions.delays:
            delay = conditions.delays.get(self._pair, delay)
        delay_s = delay.draw(conditions.rng, size_bytes)
        for trouble in conditions.troubles:
            if trouble.concerns(self._pair):
                loss = max(loss, trouble.loss)
                if trouble.delay is not None:
                    delay_s += trouble.delay.draw(conditions.rng, size_bytes)
        if loss and conditions.rng.random() < loss:
            conditions.lost += 1
            return None
        return delay_s
