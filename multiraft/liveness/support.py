"""Support between stores: one store's side of every pair, as asker and as supporter.

Purpose
    Answer two questions for the Raft groups of this store: which stores does it support (whoever
    does votes for nobody else), and until when is it supported by which (that bounds a leader's
    lease)? The cost is one request and one reply per pair and heartbeat, however many the groups.
Invariants
    - As long as the asker believes in support at (epoch, until), a supporter whose HLC has not
      passed `until` has not withdrawn that epoch. Neither restarts nor wrong clocks break this.
    - A grant is durable before the reply that tells of it leaves, and only a reply counts (A6).
      Within an epoch it is never shortened; epochs only grow.
    - `until` is durable here before anybody is asked for it, and nobody is asked while a sync is
      under way, so a store with a stalled disk loses its support (S3).
    - The end of an epoch, by withdrawal or by the asker's restart, is durable together with the HLC
      at which it came before anything here acts on it (S3).
    - Epochs belong to a pair; a start raises all of them (L3).
    - After a gap between two ticks nothing is withdrawn before the next tick (L4).
Source
    CockroachDB's store liveness, the idea; safety rules S3, A6, L3, L4.

No clock and no I/O: the caller passes its HLC in, calls `tick` once per heartbeat interval,
`withdraw_expired` when `next_expiry` has passed, and `take_effects` after every call, writes what
it gets, syncs, and then calls `synced`. Only one Effects is under way at a time, so what piles up
while a sync runs is at most one record and one message per peer.

A store is its own peer (L3): its request reaches itself with the batch that makes it durable.
"""

import enum

import msgspec

from multiraft.ids import NO_EPOCH, Epoch, NodeId, Timestamp
from multiraft.liveness.messages import SupportMessage, SupportReply, SupportRequest
from multiraft.liveness.records import Asked, Granted, Stored
from multiraft.model import hlc

_FIRST_EPOCH = Epoch(1)
_NEVER_GRANTED = Granted()
_NO_SUPPORT = (NO_EPOCH, hlc.ZERO)


class Change(enum.Enum):
    """What became different between this store and another, or itself."""

    SUPPORT_FOR_WITHDRAWN = enum.auto()
    """Groups that are fortified to a leader there are free."""
    SUPPORT_FOR_REGAINED = enum.auto()
    SUPPORT_FROM_GAINED = enum.auto()
    """Leaders here must fortify the replicas there at the new epoch."""
    SUPPORT_FROM_ENDED = enum.auto()
    """Leaders here can no longer count replicas there."""
    SUPPORT_FROM_EXTENDED = enum.auto()
    """Leases here may end later than before."""


Changes = list[tuple[NodeId, Change]]


class Effects(msgspec.Struct, frozen=True):
    """What the host owes: write `asked` and `granted` in one batch, sync it, call `synced`.

    Then, not before, send `messages`. With neither of the two records there is nothing to sync.
    """

    asked: Asked | None
    granted: tuple[tuple[NodeId, Granted], ...]
    messages: tuple[tuple[NodeId, SupportMessage], ...]
    own_reply: SupportReply | None
    """What this store answered itself; `synced` takes it in."""


class _Pair:
    """One store as seen by the asker."""

    __slots__ = ("epoch", "held", "until", "wanted")

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.until = hlc.ZERO
        """Acknowledged at `epoch`; zero when nothing is."""
        self.held = False
        """Whether there is support, as far as the host has been told; its end is told by a tick."""
        self.wanted = False
        """Whether to ask: it is a peer now."""


class Support:
    """See the module. `support` and `interval` are spans: how far ahead and how often to ask."""

    __slots__ = (
        "_asked_until",
        "_came_late",
        "_granted",
        "_in_flight",
        "_interval",
        "_node_id",
        "_owed",
        "_pairs",
        "_support",
        "_supported",
        "_ticked_at",
        "_to_ask",
        "_to_record",
        "_unrecorded",
        "version",
    )

    def __init__(
        self, node_id: NodeId, *, support: Timestamp, interval: Timestamp, stored: Stored
    ) -> None:
        self._node_id = node_id
        self._support = support
        self._interval = interval
        self._asked_until = stored.asked.until
        self._pairs = {node: _Pair(Epoch(epoch + 1)) for node, epoch in stored.asked.epochs}
        self._granted = dict(stored.granted)
        self._supported = {node: grant.epoch for node, grant in stored.granted if grant.until}
        self._ticked_at = hlc.ZERO
        self._came_late = False
        """Whether the last tick followed a gap."""
        self._in_flight: Effects | None = None
        # The three dicts are sets that keep their order.
        self._to_ask: dict[NodeId, None] = {}
        self._to_record: dict[NodeId, None] = {}
        self._owed: dict[NodeId, None] = {}
        # Raised epochs, and whatever recovery found that was never synced, are made durable first.
        self._unrecorded = True
        self.version = 0
        """Grows whenever an answer of `support_from` changes: what leases were computed from."""
        self.add_peer(node_id)

    def support_for(self, node: NodeId) -> Epoch:
        """Return the epoch at which this store durably supports `node`; 0 if it does not."""
        return self._supported.get(node, NO_EPOCH)

    def support_from(self, node: NodeId) -> tuple[Epoch, Timestamp]:
        """Return epoch and end, in this store's time, of the support from `node`; zeros if none.

        The end may have passed since the last tick: compare it with the HLC.
        """
        pair = self._pairs.get(node)
        return (pair.epoch, pair.until) if pair is not None and pair.held else _NO_SUPPORT

    def peers(self) -> list[NodeId]:
        """Return who is asked for support, this store included."""
        return [node for node, pair in self._pairs.items() if pair.wanted]

    def add_peer(self, node: NodeId) -> None:
        """Ask `node` for support from now on; from the first tick on, if that is yet to come."""
        pair = self._pairs.setdefault(node, _Pair(_FIRST_EPOCH))
        if not pair.wanted:
            pair.wanted = True
            if self._ticked_at:
                self._to_ask[node] = None

    def remove_peer(self, node: NodeId) -> Changes:
        """Ask no more and count no support from `node`. What was granted to it stays granted."""
        assert node != self._node_id, "a store stays its own peer"
        pair = self._pairs.get(node)
        if pair is None or not pair.wanted:
            return []
        pair.wanted = False
        self._to_ask.pop(node, None)
        # A new epoch, so that replies still on their way count for nothing.
        return self._adopt(node, pair, Epoch(pair.epoch + 1))

    def receive(self, node: NodeId, message: SupportMessage, hlc_now: Timestamp) -> Changes:
        """Take a message in. `hlc_now` was taken after the sender's HLC had been taken in."""
        if isinstance(message, SupportRequest):
            self._consider(node, message, hlc_now)
            return []
        return self._count(node, message, hlc_now)

    def tick(self, hlc_now: Timestamp) -> Changes:
        """Let time pass: ask everybody again, withdraw and end what has expired."""
        # L4: after a pause, and at start, the renewals of our peers are still waiting to be read.
        self._came_late = hlc_now - self._ticked_at > 2 * self._interval
        self._ticked_at = hlc_now
        self._to_ask.update((node, None) for node, pair in self._pairs.items() if pair.wanted)
        if self._came_late:
            return []
        self._withdraw(hlc_now)
        changes: Changes = []
        for node, pair in self._pairs.items():
            if pair.held and hlc_now > pair.until:
                pair.held = False
                self.version += 1
                changes.append((node, Change.SUPPORT_FROM_ENDED))
        return changes

    def next_expiry(self, hlc_now: Timestamp) -> Timestamp | None:
        """Return when `withdraw_expired` should be called before the next tick, or None.

        Groups whose leader's store died wait for it: up to an interval less than for the tick.
        """
        next_tick = self._ticked_at + self._interval
        if self._came_late or hlc_now > next_tick:
            return None
        untils = [grant.until for grant in self._granted.values() if grant.until]
        until = min(untils, default=hlc.ZERO)
        return until if hlc.ZERO < until < next_tick else None

    def withdraw_expired(self, hlc_now: Timestamp) -> None:
        """Withdraw what has expired since the tick.

        Unless the next one is due: it finds out whether there was a gap (L4).
        """
        if not self._came_late and hlc_now <= self._ticked_at + self._interval:
            self._withdraw(hlc_now)

    def take_effects(self, hlc_now: Timestamp) -> Effects | None:
        """Return what to do now; None when nothing is, or while the last Effects is not synced."""
        if self._in_flight is not None:
            return None
        if not (self._unrecorded or self._to_ask or self._to_record or self._owed):
            return None
        messages: list[tuple[NodeId, SupportMessage]] = []
        asked = self._ask(messages, hlc_now)
        granted = tuple((node, self._granted[node]) for node in self._to_record)
        own_reply = None
        for node in self._owed:
            grant = self._granted[node]
            reply = SupportReply(grant.epoch, grant.until)
            if node == self._node_id:
                own_reply = reply
            else:
                messages.append((node, reply))
        self._to_record.clear()
        self._owed.clear()
        self._in_flight = Effects(asked, granted, tuple(messages), own_reply)
        return self._in_flight

    def synced(self, effects: Effects, hlc_now: Timestamp) -> Changes:
        """Act on what is durable now: the records of `effects`, not what was decided since."""
        assert effects is self._in_flight, "effects are synced once, in order"
        self._in_flight = None
        changes: Changes = []
        for node, grant in effects.granted:
            self._show_grant(node, grant.epoch if grant.until else NO_EPOCH, changes)
        if effects.own_reply is not None:
            changes += self._count(self._node_id, effects.own_reply, hlc_now)
        return changes

    # As supporter.

    def _consider(self, node: NodeId, request: SupportRequest, hlc_now: Timestamp) -> None:
        grant = self._granted.get(node, _NEVER_GRANTED)
        if request.epoch < grant.epoch:
            # Withdrawn, or a message from before the asker's restart: tell it the present epoch.
            self._owed[node] = None
            return
        if request.until <= hlc_now:
            return  # Was long on its way; there is nothing left to promise.
        if request.epoch > grant.epoch and hlc_now <= grant.until:
            # A restarted asker speaks only after its clock has passed all that it asked for, and
            # its clock came with this message. So it did not restart properly: keep the promise.
            return
        self._owed[node] = None
        if request.epoch == grant.epoch:
            # The later of the two: a grant is not shortened by a reordered or doubled request.
            until = max(request.until, grant.until)
            self._set_grant(node, Granted(grant.epoch, until, grant.ended_at))
        else:
            # The asker's restart ends the old epoch just as a withdrawal does.
            ended_at = hlc_now if grant.until else grant.ended_at
            self._set_grant(node, Granted(request.epoch, request.until, ended_at))

    def _withdraw(self, hlc_now: Timestamp) -> None:
        for node, grant in self._granted.items():
            if grant.until and hlc_now > grant.until:
                self._set_grant(node, Granted(Epoch(grant.epoch + 1), hlc.ZERO, hlc_now))

    def _set_grant(self, node: NodeId, grant: Granted) -> None:
        before = self._granted.get(node, _NEVER_GRANTED)
        if grant == before:
            return
        assert grant.epoch >= before.epoch, "epochs only grow"
        assert grant.epoch > before.epoch or grant.until >= before.until, "a grant was shortened"
        assert grant.ended_at >= before.ended_at, "the HLC went back"
        self._granted[node] = grant
        self._to_record[node] = None

    def _show_grant(self, node: NodeId, epoch: Epoch, changes: Changes) -> None:
        before = self._supported.get(node, NO_EPOCH)
        if epoch == before:
            return
        if before:
            del self._supported[node]
            changes.append((node, Change.SUPPORT_FOR_WITHDRAWN))
        if epoch:
            self._supported[node] = epoch
            changes.append((node, Change.SUPPORT_FOR_REGAINED))

    # As asker.

    def _ask(
        self, messages: list[tuple[NodeId, SupportMessage]], hlc_now: Timestamp
    ) -> Asked | None:
        if not (self._to_ask or self._unrecorded):
            return None
        if self._to_ask:
            self._asked_until = max(self._asked_until, Timestamp(hlc_now + self._support))
        for node in self._to_ask:
            request = SupportRequest(self._pairs[node].epoch, self._asked_until)
            if node == self._node_id:
                self._consider(node, request, hlc_now)
            else:
                messages.append((node, request))
        self._to_ask.clear()
        self._unrecorded = False
        epochs = tuple((node, pair.epoch) for node, pair in self._pairs.items())
        return Asked(self._asked_until, epochs)

    def _count(self, node: NodeId, reply: SupportReply, hlc_now: Timestamp) -> Changes:
        pair = self._pairs.get(node)
        if pair is None or not pair.wanted or reply.until > self._asked_until:
            return []  # Not a peer any more, or an answer to what was never asked.
        if reply.epoch > pair.epoch:
            # The supporter withdrew. Any `until` there is not ours: this epoch was never asked for.
            self._to_ask[node] = None
            return self._adopt(node, pair, reply.epoch)
        if reply.epoch < pair.epoch or reply.until <= pair.until:
            return []  # From before our restart, reordered, or doubled.
        pair.until = reply.until
        self.version += 1
        if pair.held:
            return [(node, Change.SUPPORT_FROM_EXTENDED)]
        if hlc_now > reply.until:
            return []
        pair.held = True
        return [(node, Change.SUPPORT_FROM_GAINED)]

    def _adopt(self, node: NodeId, pair: _Pair, epoch: Epoch) -> Changes:
        pair.epoch = epoch
        pair.until = hlc.ZERO
        self.version += 1
        if not pair.held:
            return []
        pair.held = False
        return [(node, Change.SUPPORT_FROM_ENDED)]
