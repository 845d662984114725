"""Leadership transfer: a target that has everything campaigns at once, with the leader's consent.

Invariants
    - While it runs, proposals are refused and no lease is held.
    - It is one-way (rule S6): the leader is a follower for good in this term before TimeoutNow
      leaves. Until then it may be given up, and leadership simply goes on.
    - TimeoutNow and the vote requests it causes carry the release: (leader, term, clock).
Source
    Raft thesis 3.10; safety rule S6.
"""

from typing import TYPE_CHECKING

from multiraft.ids import NO_EPOCH, NO_REPLICA, ReplicaId, Timestamp
from multiraft.raft import election, fortification
from multiraft.raft.messages import Release, TimeoutNow

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


def begin(core: "RaftCore", target: ReplicaId, clock: Timestamp) -> bool:
    """Stop serving, bring `target` up to date, then hand over. False: not possible, no change."""
    leadership = core.leadership
    if (
        leadership is None
        or leadership.transfer_target != NO_REPLICA
        or target == core.replica_id
        or target not in core.electorate
    ):
        return False
    leadership.transfer_target = target
    leadership.transfer_clock = clock
    leadership.transfer_ticks = 0
    core.lease_version += 1
    core.replicate = True
    finish_if_caught_up(core)
    return True


def finish_if_caught_up(core: "RaftCore") -> None:
    """Hand over once the target has every entry."""
    leadership = core.leadership
    assert leadership is not None
    target = leadership.transfer_target
    if leadership.progress[target].match_index < core.log.last_index:
        return
    clock = leadership.transfer_clock
    release = Release(core.replica_id, core.term, NO_EPOCH, clock)
    election.step_down(core, clock)
    core.send(target, TimeoutNow(core.term, release))
    fortification.send_releases(core)


def tick(core: "RaftCore") -> None:
    """Give up a transfer whose target does not catch up; nothing has left yet."""
    leadership = core.leadership
    assert leadership is not None
    leadership.transfer_ticks += 1
    if leadership.transfer_ticks >= core.config.election_timeout_ticks:
        leadership.transfer_target = NO_REPLICA
        core.lease_version += 1


def accept_timeout_now(core: "RaftCore", source: ReplicaId, message: TimeoutNow) -> None:
    """Campaign at once, without a pre-vote, unless a rule forbids to campaign (S5, L3)."""
    fortification.take_release(core, message.release)
    core.released_term = max(core.released_term, message.release.term)
    core.leader = NO_REPLICA
    if election.may_campaign(core):
        election.become_candidate(core, message.release)
