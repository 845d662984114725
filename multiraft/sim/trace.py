"""What happened in a simulated run: a fingerprint of all of it and, if asked for, the events.

Purpose
    Two runs of one seed must be the same run. `digest` tells whether they were, and the kept events
    show where they parted, and to a reader what led to a violation.
Invariants
    - Nothing noted here depends on where objects lie in memory, on hash order or on a real clock.
    - Noting changes nothing in the run: a traced run is the same as one that is not.
    - The digest is the same whether events are kept or not, though an observer looks only if so.
Format
    The digest is xxh3_64 over the msgpack form of each event that is noted, each preceded by how
    many callbacks the loop had run, and over the frames between stores, preceded by the same. It is
    good for one version of the code.
"""

from typing import Protocol, TypeAlias

import msgspec
import xxhash

from multiraft.ids import NodeId
from multiraft.ranges.outbox import SendFrame
from multiraft.sim.clock import HasTime
from multiraft.sim.loop import VirtualLoop

WORLD = 0
"""Instead of a node's number: clients, links, and whoever hurts the cluster."""

Key: TypeAlias = bytes | str | int | float | tuple["Key", ...] | None


class What(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that happened. Each kind is one struct; its tag is the kind's name."""


class Started(What, frozen=True, tag="start"):
    """A node began to run, for the `incarnation`th time."""

    incarnation: int


class Stopped(What, frozen=True, tag="stop"):
    """A node was asked to stop in good order."""


class Crashed(What, frozen=True, tag="crash"):
    """A node ended between two callbacks; its disk forgot the last `batches_lost` batches."""

    batches_lost: int


class Frozen(What, frozen=True, tag="freeze"):
    """A node stands still, and nothing reaches it."""


class Thawed(What, frozen=True, tag="thaw"):
    """A node goes on after Frozen."""


class Fault(What, frozen=True, tag="fault"):
    """Somebody hurt the cluster in a way that has no kind of its own."""

    name: str
    detail: str = ""


class LinkCut(What, frozen=True, tag="cut"):
    """What `source` sends to `target` is held from now on."""

    source: int
    target: int


class LinkHealed(What, frozen=True, tag="heal"):
    """Undoes LinkCut."""

    source: int
    target: int


class Isolated(What, frozen=True, tag="isolate"):
    """Everything from and to the node is held from now on."""


class Rejoined(What, frozen=True, tag="rejoin"):
    """Undoes Isolated."""


class ConnectionsBroken(What, frozen=True, tag="reset"):
    """The node's connections to `others` broke, losing what travelled."""

    others: tuple[int, ...]


class RoleChanged(What, frozen=True, tag="role"):
    """The node's replica of a range was first seen in this role and term."""

    range: int
    term: int
    role: str


class Serving(What, frozen=True, tag="serving"):
    """The node's replica was first seen to serve in its term, under a lease."""

    range: int
    term: int
    lease_end_us: int
    """By the node's own clock, on the trace's scale."""


class MessageSent(What, frozen=True, tag="sent"):
    """A Raft message left for `target`. `index` is the entry it speaks of, 0 for none."""

    message: int
    """Its number in this trace."""
    target: int
    range: int
    name: str
    term: int
    index: int
    entries: int


class MessageReceived(What, frozen=True, tag="received"):
    """A message arrived at the node of this event."""

    message: int
    source: int
    range: int
    name: str
    term: int
    index: int


class MessageLost(What, frozen=True, tag="lost"):
    """A message, noted at its sender, will not arrive."""

    message: int
    target: int
    range: int
    name: str
    term: int
    index: int
    reason: str


class SupportGranted(What, frozen=True, tag="grant"):
    """The node's store durably supports that of `node`."""

    node: int
    epoch: int


class SupportWithdrawn(What, frozen=True, tag="withdraw"):
    """The node's store does not support that of `node` any more."""

    node: int
    epoch: int


class Split(What, frozen=True, tag="split"):
    """The node's replica was first seen without what now is the range `right`, from `key` on."""

    range: int
    right: int
    key: bytes


class MembersChanged(What, frozen=True, tag="members"):
    """The node's replica was first seen with other members, `+` a learner's or leaver's."""

    range: int
    generation: int
    members: str


class Snapshot(What, frozen=True, tag="snapshot"):
    """The node's replica sent or installed a snapshot of its range."""

    range: int
    direction: str
    index: int


class Invoked(What, frozen=True, tag="invoke"):
    """A client made a call."""

    operation: int
    client: str
    function: str
    key: Key


class Ended(What, frozen=True, tag="end"):
    """A client's call ended: ok, failed or unknown."""

    operation: int
    client: str
    function: str
    key: Key
    outcome: str
    detail: str = ""


class Violation(What, frozen=True, tag="violation"):
    """What must never be was seen."""

    text: str


class Note(What, frozen=True, tag="note"):
    """A remark."""

    text: str


KINDS: tuple[type[What], ...] = (
    Started,
    Stopped,
    Crashed,
    Frozen,
    Thawed,
    Fault,
    LinkCut,
    LinkHealed,
    Isolated,
    Rejoined,
    ConnectionsBroken,
    RoleChanged,
    Serving,
    MessageSent,
    MessageReceived,
    MessageLost,
    SupportGranted,
    SupportWithdrawn,
    Split,
    MembersChanged,
    Snapshot,
    Invoked,
    Ended,
    Violation,
    Note,
)


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One moment of a run."""

    t_us: int
    """Virtual microseconds since the loop began."""
    node: int
    """Where it happened; WORLD if nowhere in particular."""
    what: What


class CountsCallbacks(Protocol):
    """A loop that tells how much it has done."""

    callbacks: int


class _UncountedLoop:
    callbacks = 0


class Trace:
    """See the module. One per run; the cluster binds it to its loop."""

    def __init__(self, *, keep: bool = False) -> None:
        self.events: list[Event] = []
        """All of them if they are kept, else none."""
        self.keeps = keep
        self._hash = xxhash.xxh3_64()
        self._encode = msgspec.msgpack.Encoder().encode
        self._time: HasTime | None = None
        self._loop: CountsCallbacks = _UncountedLoop()
        self._open: dict[int, Invoked] = {}
        self._operations = 0

    def bind(self, loop: HasTime) -> None:
        """Take the time, and on virtual time the count of callbacks, from this loop."""
        assert self._time is None, "a trace is of one run"
        self._time = loop
        if isinstance(loop, VirtualLoop):
            self._loop = loop

    def note(self, node: int, what: What) -> None:
        """Take an event in, which happens now."""
        event = self._now(node, what)
        self._hash.update(self._encode((self._loop.callbacks, event)))
        if self.keeps:
            self.events.append(event)

    def tell(self, node: int, what: What) -> None:
        """Keep an event that follows from what is noted, and from the frames."""
        if self.keeps:
            self.events.append(self._now(node, what))

    def _now(self, node: int, what: What) -> Event:
        assert self._time is not None, "the trace is bound to a loop"
        return Event(round(self._time.time() * 1e6), node, what)

    def covering(self, source: int, send: SendFrame) -> SendFrame:
        """Return what a store is to send with for the digest to depend on its frames."""

        def covered(target: NodeId, payload: bytes) -> None:
            self._hash.update(b"%d %d %d " % (self._loop.callbacks, source, target))
            self._hash.update(payload)
            send(target, payload)

        return covered

    def invoked(self, client: int | str, function: str, key: Key = None) -> int:
        """Note that a client makes a call; return its number, for `ended`."""
        self._operations += 1
        call = Invoked(self._operations, str(client), function, key)
        self._open[call.operation] = call
        self.note(WORLD, call)
        return call.operation

    def ended(self, operation: int, outcome: str, detail: str = "") -> None:
        """Note that a call ended: `ok`, `failed` or `unknown`."""
        call = self._open.pop(operation)
        self.note(WORLD, Ended(operation, call.client, call.function, call.key, outcome, detail))

    def digest(self) -> str:
        """Return 16 hexadecimal digits: equal for two runs that were the same until now."""
        so_far = self._hash.copy()
        so_far.update(self._encode(self._loop.callbacks))
        return so_far.hexdigest()
