"""What stores say to each other, seen from the wire: heard, counted, and hurt on request.

Purpose
    Let others listen to every Raft message that leaves a store. Lose single messages, and let them
    come twice, late and out of order, as a connection that is replayed would.
Invariants
    - Listeners hear a message once, when its sender sends it and before anything happens to it; a
      message that `drop` loses they do not hear.
    - What is repeated or delayed keeps the clock of its first frame.
"""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from multiraft.ids import NodeId
from multiraft.ranges import messages
from multiraft.ranges.messages import GroupEnvelope, PeerFrame
from multiraft.ranges.outbox import SendFrame

Drop = Callable[[int, int, GroupEnvelope], bool]
Listener = Callable[[int, int, int, GroupEnvelope], None]
"""Called with (source, its incarnation, target, envelope)."""


class Tricks(msgspec.Struct, frozen=True):
    """How likely a Raft message is lost alone, comes twice, or late; and how late at most."""

    loss_chance: float = 0.0
    repeat_chance: float = 0.0
    delay_chance: float = 0.0
    delay_s_max: float = 1.0


HONEST = Tricks()


class Wiretap:
    """One per cluster; every store's outgoing frames pass through `splice`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.frames: Counter[tuple[int, int]] = Counter()
        """Sent, by (source, target)."""
        self.envelopes = 0
        self.listeners: list[Listener] = []
        self.drop: Drop | None = None
        """Called with (source, target, envelope); True loses the message."""
        self.dropped = 0
        self._tricks = HONEST
        self._is_tricky = False
        self.repeated = 0
        self.delayed = 0
        self._senders: dict[int, tuple[SendFrame, contextvars.Context]] = {}

    @property
    def tricks(self) -> Tricks:
        """What becomes of messages."""
        return self._tricks

    @tricks.setter
    def tricks(self, tricks: Tricks) -> None:
        self._tricks = tricks
        self._is_tricky = tricks != HONEST

    def splice(self, node: int, incarnation: int, send: SendFrame) -> SendFrame:
        """Return what the store of that node is to send with instead of `send`.

        To be called as the process of that life.
        """
        self._senders[node] = (send, contextvars.copy_context())

        def tapped(target: NodeId, payload: bytes) -> None:
            self.frames[node, target] += 1
            frame = messages.decode_peer_frame(payload)
            if frame.envelopes:
                kept = list(frame.envelopes)
                if self.drop is not None:
                    kept = [e for e in kept if not self._drops(self.drop, node, target, e)]
                self.envelopes += len(kept)
                for envelope in kept:
                    for hear in self.listeners:
                        hear(node, incarnation, target, envelope)
                if self._is_tricky:
                    kept = self._hurt(node, target, frame, kept)
                if len(kept) < len(frame.envelopes):
                    payload = messages.encode(msgspec.structs.replace(frame, envelopes=tuple(kept)))
            send(target, payload)

        return tapped

    def hang_up(self, node: int) -> None:
        """The node has died: nothing is sent for it until its next life."""
        self._senders.pop(node, None)

    def _drops(self, drop: Drop, source: int, target: int, envelope: GroupEnvelope) -> bool:
        drops = drop(source, target, envelope)
        self.dropped += drops
        return drops

    def _hurt(
        self, node: int, target: NodeId, frame: PeerFrame, kept: list[GroupEnvelope]
    ) -> list[GroupEnvelope]:
        """Return what arrives in time; what comes late, or once more, is on its way."""
        tricks, rng = self.tricks, self._rng
        in_time: list[GroupEnvelope] = []
        for envelope in kept:
            if tricks.loss_chance and rng.random() < tricks.loss_chance:
                self.dropped += 1
                continue
            is_late = rng.random() < tricks.delay_chance
            if is_late:
                self.delayed += 1
            else:
                in_time.append(envelope)
            if rng.random() < tricks.repeat_chance:
                self.repeated += 1
                self._send_later(node, target, frame, envelope)
            if is_late:
                self._send_later(node, target, frame, envelope)
        return in_time

    def _send_later(
        self, node: int, target: NodeId, frame: PeerFrame, envelope: GroupEnvelope
    ) -> None:
        """Send a message by whatever connection its node has then, be it in another life."""
        payload = messages.encode(PeerFrame(frame.clock, (), (envelope,)))

        def send_now() -> None:
            sender = self._senders.get(node)
            if sender is not None:
                send, context = sender
                context.copy().run(send, target, payload)

        # Not of the sender's process: what has left it goes on when it is killed.
        delay_s = self._rng.random() * self.tricks.delay_s_max
        asyncio.get_running_loop().call_later(delay_s, send_now, context=contextvars.Context())
