"""Raft messages for ranges that a split not yet applied here will bring.

Purpose
    A follower that is slow to apply a split gets messages for the right range before it has it. To
    make an empty replica for them would have the leader send a snapshot of data that is here
    already. So they wait while a local replica covers their span, and are replayed after the split.
Invariants
    - At most `hold_messages_max` messages are held, the newest of them, and none for longer than
      `hold_messages_ms`. What is dropped Raft sends again.
"""

from collections import deque
from typing import NamedTuple

import msgspec

from multiraft.config import RangesConfig
from multiraft.ids import NodeId, RangeId
from multiraft.ranges.messages import GroupEnvelope
from multiraft.runtime import Clock


class Held(NamedTuple):
    """One message, with who sent it and when it goes stale."""

    source: NodeId
    envelope: GroupEnvelope
    expires: float


class HeldStatus(msgspec.Struct, frozen=True):
    """How many messages wait, and how many were dropped because of their number or their age."""

    waiting: int
    dropped: int


class HeldMessages:
    """Those of one store."""

    __slots__ = ("_clock", "_config", "_waiting", "dropped")

    def __init__(self, config: RangesConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._waiting: deque[Held] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def status(self) -> HeldStatus:
        """Return how many are held."""
        return HeldStatus(len(self._waiting), self.dropped)

    def hold(self, source: NodeId, envelope: GroupEnvelope) -> None:
        """Keep a message for later."""
        now = self._clock.monotonic()
        waiting = self._waiting
        while waiting and (
            len(waiting) >= self._config.hold_messages_max or waiting[0].expires <= now
        ):
            waiting.popleft()
            self.dropped += 1
        waiting.append(Held(source, envelope, now + self._config.hold_messages_ms / 1_000))

    def take(self, range_id: RangeId) -> list[Held]:
        """Remove and return the messages for a range, in the order of their arrival."""
        now = self._clock.monotonic()
        taken = [h for h in self._waiting if h.envelope.range_id == range_id]
        if taken:
            self._waiting = deque(h for h in self._waiting if h.envelope.range_id != range_id)
        return [h for h in taken if h.expires > now]
