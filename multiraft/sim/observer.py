"""Watches the nodes of a simulated cluster from outside, and tells a trace what they do.

Purpose
    Hear every frame between stores, before and behind the wiretap and where it arrives. Each time a
    look at the replicas that it concerns, or at all of them when it carries heartbeats, tells of
    roles, leases, splits, members, snapshots and support.
Invariants
    - It only looks: no question is asked whose answer a store would have to remember, and no clock
      is read that would move on.
    - A message is received, or lost, once. On one connection frames keep their order, so what a
      later frame overtakes is lost; so is what travels when a node or its connections break. What
      the wiretap sends late, or once more, is another message.
"""

from collections import deque
from collections.abc import Iterable

from multiraft.ids import NodeId
from multiraft.model import hlc, keys
from multiraft.model.descriptor import RangeDescriptor, ReplicaKind
from multiraft.node import Node
from multiraft.raft.messages import AppendEntries, Message
from multiraft.raft.role import Role
from multiraft.ranges import messages
from multiraft.ranges.messages import GroupEnvelope, PeerFrame
from multiraft.ranges.outbox import SendFrame
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.sim.clock import VirtualClock
from multiraft.sim.inspection import Member
from multiraft.sim.trace import (
    MembersChanged,
    MessageLost,
    MessageReceived,
    MessageSent,
    RoleChanged,
    Serving,
    Snapshot,
    Split,
    SupportGranted,
    SupportWithdrawn,
    Trace,
)

_INDEXES = ("index", "last_index", "match_index", "prev_index")
"""Where messages name the entry they speak of; the first that a message has counts."""


class _Travelling:
    """A frame on its way, known again by the very bytes object, and its messages."""

    __slots__ = ("frame", "messages", "payload")

    def __init__(self, payload: bytes, frame: PeerFrame, messages: list[MessageSent]) -> None:
        self.payload = payload
        self.frame = frame
        self.messages = messages


class _Seen:
    """What was last seen of one replica."""

    __slots__ = (
        "descriptor",
        "installed",
        "replica_id",
        "role",
        "sent",
        "serving_term",
        "term",
    )

    def __init__(self, replica: Replica) -> None:
        self.replica_id = replica.replica_id
        self.role = -1
        self.term = -1
        self.serving_term = -1
        self.descriptor = replica.descriptor
        self.sent = replica.snapshots_sent
        self.installed = replica.snapshots_installed


class Observer:
    """One per cluster whose trace keeps its events."""

    def __init__(self, trace: Trace, members: dict[int, Member]) -> None:
        self._trace = trace
        self._members = members
        self._messages = 0
        self._said: list[tuple[GroupEnvelope, MessageSent]] = []
        """By the store whose frame passes the wiretap now, and not claimed yet."""
        self._travelling: dict[tuple[int, int], deque[_Travelling]] = {}
        self._seen: dict[int, dict[int, _Seen]] = {number: {} for number in members}
        self._support: dict[tuple[int, int], int] = {}

    # -- frames ----------------------------------------------------------------------------------

    def saying(self, number: int, send: SendFrame) -> SendFrame:
        """Return what a store is to send with instead of the wiretap's `send`."""

        def heard(target: NodeId, payload: bytes) -> None:
            frame = messages.decode_peer_frame(payload)
            self._look(number, frame)
            said = [(e, self._number(number, target, e)) for e in frame.envelopes]
            self._said = said
            send(target, payload)
            self._said = []
            for _, sent in said:
                self._lose(number, sent, "the wiretap held it back")

        return heard

    def carrying(self, number: int, node: Node, send: SendFrame) -> SendFrame:
        """Hear what a node receives; return what the wiretap is to send with for it."""
        receive = node.store.receive_frame

        def carried(target: NodeId, payload: bytes) -> None:
            frame = messages.decode_peer_frame(payload)
            sent = [self._claim(e) or self._number(number, target, e) for e in frame.envelopes]
            travelling = self._travelling.setdefault((number, target), deque())
            travelling.append(_Travelling(payload, frame, sent))
            unsent = node._links.frames_dropped
            send(target, payload)
            if node._links.frames_dropped > unsent:
                self._lose_all(number, [travelling.pop()], "no connection")

        def received(source: NodeId, payload: bytes) -> None:
            frame = self._arrived(source, number, payload)
            receive(source, payload)
            if frame is not None:
                self._look(number, frame)

        node.store.receive_frame = received  # type: ignore[method-assign]
        return carried

    def _claim(self, envelope: GroupEnvelope) -> MessageSent | None:
        """Return the message that the store just said; None for one that comes late, or again."""
        for position, (said, sent) in enumerate(self._said):
            if said == envelope:
                del self._said[position]
                return sent
        return None

    def _arrived(self, source: int, target: int, payload: bytes) -> PeerFrame | None:
        travelling = self._travelling.get((source, target), deque())
        overtaken: list[_Travelling] = []
        for arrived in travelling:
            if arrived.payload is payload:
                break
            overtaken.append(arrived)
        else:
            return None  # A stranger's, made up by a test.
        for _ in range(len(overtaken) + 1):
            travelling.popleft()
        self._lose_all(source, overtaken, "its connection broke")
        for sent in arrived.messages:
            self._trace.tell(
                target,
                MessageReceived(sent.message, source, sent.range, sent.name, sent.term, sent.index),
            )
        return arrived.frame

    # -- what the cluster reports ----------------------------------------------------------------

    def broken(self, one: int, others: Iterable[int]) -> None:
        """Whatever travels between a node and these others is lost, both ways."""
        for other in others:
            for pair in ((one, other), (other, one)):
                travelling = self._travelling.pop(pair, deque())
                self._lose_all(pair[0], travelling, "its connection broke")

    def ended(self, number: int) -> None:
        """A node is no more: nothing that was seen of it holds, and what travels is lost."""
        self.broken(number, [other for other in self._members if other != number])
        self._seen[number] = {}
        for pair in [pair for pair in self._support if pair[0] == number]:
            del self._support[pair]

    # -- messages --------------------------------------------------------------------------------

    def _number(self, source: int, target: int, envelope: GroupEnvelope) -> MessageSent:
        message = envelope.message
        self._messages += 1
        sent = MessageSent(
            self._messages,
            target,
            envelope.range_id,
            type(message).__name__,
            message.term,
            _index_of(message),
            len(message.entries) if isinstance(message, AppendEntries) else 0,
        )
        self._trace.tell(source, sent)
        return sent

    def _lose(self, source: int, sent: MessageSent, reason: str) -> None:
        self._trace.tell(
            source,
            MessageLost(
                sent.message, sent.target, sent.range, sent.name, sent.term, sent.index, reason
            ),
        )

    def _lose_all(self, source: int, frames: Iterable[_Travelling], reason: str) -> None:
        for frame in frames:
            for sent in frame.messages:
                self._lose(source, sent, reason)

    # -- looking ---------------------------------------------------------------------------------

    def _look(self, number: int, frame: PeerFrame) -> None:
        node = self._members[number].node
        if node is None:
            return
        if frame.liveness:
            self._look_at_all(number, node.store)
            return
        for envelope in frame.envelopes:
            replica = node.store.replicas.get(envelope.range_id)
            if replica is not None:
                self._look_at(number, node.store, replica)

    def _look_at_all(self, number: int, store: Store) -> None:
        for replica in store.replicas.values():
            self._look_at(number, store, replica)
        for range_id in [r for r in self._seen[number] if r not in store.replicas]:
            self._miss(number, range_id)
        for member in self._members.values():
            self._look_at_support(number, member.number, store.liveness.support_for(member.node_id))

    def _look_at_support(self, supporter: int, asker: int, epoch: int) -> None:
        before = self._support.get((supporter, asker), 0)
        if epoch == before or supporter == asker:
            return
        self._support[supporter, asker] = epoch
        if before:
            self._trace.tell(supporter, SupportWithdrawn(asker, before))
        if epoch:
            self._trace.tell(supporter, SupportGranted(asker, epoch))

    def _miss(self, number: int, range_id: int) -> None:
        gone = self._seen[number].pop(range_id)
        self._trace.tell(number, RoleChanged(range_id, gone.term, "gone"))

    def _look_at(self, number: int, store: Store, replica: Replica) -> None:
        seen = self._seen[number].get(replica.range_id)
        if seen is not None and seen.replica_id != replica.replica_id:
            self._miss(number, replica.range_id)
            seen = None
        if seen is None:
            seen = self._seen[number][replica.range_id] = _Seen(replica)
        core = replica.core
        if core.role != seen.role or core.term != seen.term:
            seen.role, seen.term = core.role, core.term
            role = Role(core.role).name.lower().replace("_", "-")
            self._trace.tell(number, RoleChanged(replica.range_id, core.term, role))
        if replica.descriptor is not seen.descriptor:
            before, seen.descriptor = seen.descriptor, replica.descriptor
            self._compare(number, store, before, replica.descriptor)
        if replica.leaseholder is not None and seen.serving_term != core.term:
            self._look_at_lease(number, replica, seen)
        if replica.snapshots_sent != seen.sent or replica.snapshots_installed != seen.installed:
            direction = "sent" if replica.snapshots_sent != seen.sent else "installed"
            seen.sent, seen.installed = replica.snapshots_sent, replica.snapshots_installed
            index = replica.applied.index
            self._trace.tell(number, Snapshot(replica.range_id, direction, index))

    def _look_at_lease(self, number: int, replica: Replica, seen: _Seen) -> None:
        holder, end = replica.leaseholder, replica.lease.last_told
        now = hlc.from_us(self._members[number].clock.wall_us())
        if holder is not None and holder.serving and end > now:
            seen.serving_term = holder.term
            end_us = hlc.to_us(end) - VirtualClock.START_US
            self._trace.tell(number, Serving(replica.range_id, holder.term, end_us))

    def _compare(
        self,
        number: int,
        store: Store,
        before: RangeDescriptor | None,
        after: RangeDescriptor | None,
    ) -> None:
        if after is None:
            return
        if before is not None and after.end < before.end:
            right = store.map.at(after.end)
            right_id = 0 if right is None else right.range_id
            key = after.end.removeprefix(keys.PLAIN)
            self._trace.tell(number, Split(after.range_id, right_id, key))
        if before is None or after.replicas != before.replicas:
            members = _told(after)
            self._trace.tell(number, MembersChanged(after.range_id, after.generation, members))


def _told(descriptor: RangeDescriptor) -> str:
    return " ".join(
        f"n{r.node_id}" + ("" if r.kind is ReplicaKind.VOTER else f"+{r.kind.name.lower()}")
        for r in descriptor.replicas
    )


def _index_of(message: Message) -> int:
    for name in _INDEXES:
        index = getattr(message, name, None)
        if index is not None:
            return int(index)
    return 0
