"""Rare situations of splits, replicas, snapshots and crashes."""

from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.model.descriptor import ReplicaKind
from multiraft.raft.role import Role
from multiraft.ranges import split, state
from multiraft.sim.probing import Called, Probe, Raised
from multiraft.storage import layout, raft_log
from multiraft.storage.memory import MemoryEngine

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.sim.cluster import Cluster

_STORE = "multiraft.ranges.store:Store."
_REPLICA = "multiraft.ranges.replica:Replica."
_CRASH = "multiraft.storage.memory:MemoryEngine.crash"
_KILL = "multiraft.sim.cluster:Cluster.kill"


def _lost(engine: MemoryEngine, keep: int) -> list[tuple[bool, bytes, bytes | None, bytes | None]]:
    """Return what a crash undoes: (of a log?, key, what it was, what it is)."""
    undone = list(engine._unsynced)[keep:]
    return [
        (family is engine.raft, key, old, family.newest.get(key))
        for undo in undone
        for family, key, old in undo
    ]


def _loses_log(kind: bytes) -> Called:
    """A record of that kind in a log is lost."""
    return Called(
        _CRASH,
        before=lambda engine, keep: any(
            of_log and key[8:9] == kind for of_log, key, _, _ in _lost(engine, keep)
        ),
    )


def _loses_state(suffix: bytes) -> Called:
    """A record of that kind of a range's own state is lost."""
    return Called(
        _CRASH,
        before=lambda engine, keep: any(
            not of_log and key[:1] == layout.RANGE and key[9:] == suffix
            for of_log, key, _, _ in _lost(engine, keep)
        ),
    )


def _loses_vote(engine: MemoryEngine, keep: int) -> bool:
    return any(
        of_log
        and key[8:] == raft_log.HARD_STATE
        and old is not None
        and new is not None
        and old[:16] != new[:16]
        for of_log, key, old, new in _lost(engine, keep)
    )


def _replicas(cluster: "Cluster", number: int) -> "list[Replica]":
    return list(cluster.members[number].up.store.replicas.values())


SPLITS = (
    Probe(
        "message held for an unapplied split",
        "no empty replica is made that would need a snapshot",
        Called("multiraft.ranges.held:HeldMessages.hold"),
    ),
    Probe(
        "held messages replayed",
        "the right range goes on as soon as it is there",
        Called("multiraft.ranges.held:HeldMessages.take", after=lambda taken, *_: bool(taken)),
    ),
    Probe(
        "right replica kept what it had promised",
        "rule S16: an uninitialised replica's term and vote outlive the split",
        Called(
            "multiraft.ranges.split:right_hard_state",
            before=lambda _, existing: existing is not None and existing.term > 0,
        ),
    ),
    Probe(
        "split found an uninitialised right replica",
        "trap T14: it is initialised, not replaced",
        Called(
            "multiraft.ranges.split:decide",
            after=lambda verdict, *_: verdict is split.RightSide.INITIALISE,
        ),
    ),
    Probe(
        "split left the right side alone",
        "trap T14: it was removed, or added again, before the split was applied",
        Called(
            "multiraft.ranges.split:decide",
            after=lambda verdict, *_: verdict is split.RightSide.LEAVE,
        ),
    ),
    Probe(
        "split applied by its proposer after its term",
        "rule S1: nobody leads the right range without an election then",
        Called(
            _STORE + "create_right",
            before=lambda store, _, trigger, __, *, live: (
                not live and trigger.leader == store.context.node_id
            ),
        ),
    ),
    Probe(
        "first leader led without an election",
        "a split costs no election",
        Called("multiraft.raft.core:RaftCore.become_first_leader"),
    ),
    Probe(
        "first leader left it to an election",
        "the disk was so slow that votes are asked for already",
        Called(
            _STORE + "_lead_first",
            before=lambda _, replica: (
                replica.core.term != state.INITIAL_TERM or replica.core.role is not Role.FOLLOWER
            ),
        ),
    ),
    Probe(
        "split repeated by its client",
        "a second attempt finds the first one's work",
        Called("multiraft.ranges.admin:AdminRequests._already_split"),
    ),
)

REPLICAS = (
    Probe(
        "uninitialised replica made",
        "a learner, or a follower of a range that is not here, waits for a snapshot",
        Called(_STORE + "_new_receiver", after=lambda made, *_: made is not None),
    ),
    Probe(
        "tombstone refused a message",
        "a removed replica does not come back (trap T16)",
        Called(
            _STORE + "_new_receiver",
            after=lambda made, store, _, envelope: (
                made is None and store.map.at(envelope.start) is None
            ),
        ),
    ),
    Probe(
        "uninitialised replica found at start",
        "its vote outlives a restart",
        Called(_STORE + "_load", before=lambda _, found: found.state is None),
    ),
    Probe(
        "replica removed by its own log",
        "it applied the descriptor that leaves it out",
        Called(_STORE + "remove"),
    ),
    Probe(
        "replica removed on another's word",
        "it missed its own removal",
        Called(
            _STORE + "_destroy",
            before=lambda _, replica, tombstone: tombstone.descriptor is not replica.descriptor,
        ),
    ),
    Probe(
        "old replica made way for its successor",
        "removed and added again under a higher ID (trap T14)",
        Called(
            _STORE + "_destroy",
            before=lambda _, replica, tombstone: tombstone.descriptor is replica.descriptor,
        ),
    ),
    Probe(
        "removed replica told so",
        "it asked for votes, or a change told it",
        Called(_STORE + "post_removal"),
    ),
    Probe(
        "doubt about a leader whose replica is gone",
        "rule L1: its store answers for it",
        Called(_STORE + "_deny_still_leading"),
    ),
    Probe(
        "joint configuration left",
        "whoever leads sees to it, asked or not",
        Called("multiraft.ranges.membership:left_joint"),
    ),
    Probe(
        "leader is to be demoted",
        "it hands over before it leaves the voters",
        Called(
            "multiraft.ranges.membership:leave_joint",
            before=lambda _, replica, __: (
                (mine := replica.descriptor.replica(replica.replica_id)) is not None
                and mine.kind is ReplicaKind.OUTGOING
            ),
        ),
    ),
    Probe(
        "transfer failed",
        "the target could not take over in time",
        Raised("multiraft.ranges.admin:AdminRequests.hand_over", errors.ConflictingChangeError),
    ),
)

SNAPSHOTS = (
    Probe(
        "snapshot installed", "a follower came back from far behind", Called(_REPLICA + "_install")
    ),
    Probe(
        "snapshot initialised a replica",
        "a learner got its data",
        Called(_REPLICA + "_install", before=lambda replica, *_: replica.descriptor is None),
    ),
    Probe(
        "snapshot narrowed by a split",
        "rule A4: what the old span covered and the new one does not is cleared",
        Called(
            _REPLICA + "_install",
            before=lambda replica, *_: (
                replica.descriptor is not None
                and replica.descriptor.end > replica.staged.state.descriptor.end
            ),
        ),
    ),
    Probe(
        "snapshot refused",
        "it was late, not for this replica, or met another replica's span",
        Called(
            "multiraft.ranges.snapshot_intake:SnapshotIntake.admit",
            after=lambda refusal, *_: bool(refusal),
        ),
    ),
    Probe(
        "snapshot broke off",
        "half of one leaves no trace",
        Called(
            "multiraft.ranges.snapshot:SnapshotReceiver.closed",
            before=lambda receiver, _: receiver._header is not None,
        ),
    ),
    Probe(
        "log truncated under a lagging follower",
        "a follower that is far behind holds nothing up for ever",
        Called(
            "multiraft.ranges.triggers:_truncate",
            before=lambda replica, _, __, trigger, ___: (
                replica.core.leadership is not None
                and trigger.index > replica.core.replicated_index()
            ),
        ),
    ),
)

CRASHES = (
    Probe(
        "crash lost an unsynced vote",
        "rule S14: nobody heard of it",
        Called(_CRASH, before=_loses_vote),
    ),
    Probe("crash lost unsynced entries", "they were not vouched for", _loses_log(raft_log.ENTRY)),
    Probe("crash lost applied state", "it is applied again (trap T5)", _loses_state(state.APPLIED)),
    Probe(
        "crash lost a descriptor",
        "a split or change is applied again",
        _loses_state(state.DESCRIPTOR),
    ),
    Probe(
        "crash lost a tombstone", "a removed replica is back for now", _loses_state(state.TOMBSTONE)
    ),
    Probe(
        "crash in a joint configuration",
        "two majorities survive a restart",
        Called(
            _KILL,
            before=lambda cluster, number, **_: any(
                r.descriptor is not None and r.descriptor.is_joint
                for r in _replicas(cluster, number)
            ),
        ),
    ),
    Probe(
        "crash while a snapshot came in",
        "the old state is what a restart finds",
        Called(
            _KILL,
            before=lambda cluster, number, **_: bool(
                cluster.members[number].up.store.intake.receiving
            ),
        ),
    ),
    Probe(
        "crash of a leader with commands in flight",
        "what was acknowledged is there, what was not may be",
        Called(
            _KILL,
            before=lambda cluster, number, **_: any(
                r.leaseholder is not None and len(r.leaseholder.proposals)
                for r in _replicas(cluster, number)
            ),
        ),
    ),
    Probe("disk failure stopped a store", "rule S15: no second attempt", Called(_STORE + "fail")),
    Probe(
        "start waited for the clock",
        "rule S3: it passes what was promised before",
        Called(
            "multiraft.liveness.heartbeats:Liveness.start",
            before=lambda liveness: liveness._clock_floor >= liveness._hlc.wall(),
        ),
    ),
)

PROBES: tuple[Probe, ...] = (
    *SPLITS,
    *REPLICAS,
    *SNAPSHOTS,
    *CRASHES,
)
