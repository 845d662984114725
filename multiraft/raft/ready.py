"""What a core wants done: the contract between consensus and its host."""

import msgspec

from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.messages import Configuration, Entry, Envelope


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica must not forget: one record, written whole (rules S5, S16).

    `(fortified_leader, fortified_term, fortified_epoch)` says to whom this replica has promised not
    to vote for others; zeros when to nobody. `commit_index` never falls below the applied index.
    """

    term: Term = Term(0)
    vote: ReplicaId = ReplicaId(0)
    commit_index: Index = Index(0)
    fortified_leader: ReplicaId = ReplicaId(0)
    fortified_term: Term = Term(0)
    fortified_epoch: Epoch = Epoch(0)


class SnapshotMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The point in the log that a snapshot stands for."""

    index: Index
    term: Term
    configuration: Configuration


class ReadState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A confirmed ReadIndex: `context` may be answered once `index` is applied."""

    context: int
    index: Index


class Ready(msgspec.Struct, frozen=True):
    """What the host owes one range.

    The order is the contract: install `snapshot` (its data, and the log reset to its mark), write
    `entries` (overwriting whatever the log holds from the first one on) and `hard_state` in one
    batch; send `messages` any time after taking the Ready; send `messages_after_sync` once that
    batch is durable, and then call `core.synced(ready)`. Apply `committed` in order and call
    `core.applied(index)`, except where a later step brought a snapshot that stands for them: then
    `core.applied_index` is above theirs. A host that takes several Readys before the first is
    durable calls `synced` for each, in order. `must_sync` is False when nothing but the commit
    index changed: then no sync is owed and `synced` need not be called. A Ready with
    `messages_after_sync` must always be synced, since what they vouch for may lie in an earlier
    batch.
    """

    snapshot: SnapshotMark | None = None
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None
    messages: tuple[Envelope, ...] = ()
    messages_after_sync: tuple[Envelope, ...] = ()
    committed: tuple[Entry, ...] = ()
    snapshot_targets: tuple[ReplicaId, ...] = ()
    """Followers too far behind for the log: stream them a snapshot, then `report_snapshot`."""
    reads: tuple[ReadState, ...] = ()
    must_sync: bool = False
