"""Rare situations of elections, replication, transfers and changes of the configuration."""

from typing import TYPE_CHECKING

from multiraft.ids import NO_REPLICA
from multiraft.raft import fortification, quorum
from multiraft.raft import messages as raft
from multiraft.raft.membership import Refusal
from multiraft.raft.progress import ProgressState
from multiraft.raft.role import Role
from multiraft.sim.probing import Called, Probe, Said

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore

_ELECTION = "multiraft.raft.election:"
_REPLICATION = "multiraft.raft.replication:"


def _is_figure_8(core: "RaftCore") -> bool:
    """A quorum has an entry of an older term, which the leader must not commit by counting."""
    leadership = core.leadership
    if leadership is None or core.commit_index >= leadership.noop_index - 1:
        return False
    matches = {member: progress.match_index for member, progress in leadership.progress.items()}
    return core.commit_index < quorum.reached(core.configuration, matches) < leadership.noop_index


def _refuses(reason: Refusal) -> Called:
    return Called("multiraft.raft.membership:refusal", after=lambda found, *_: found is reason)


ELECTIONS = (
    Probe(
        "pre-vote refused by a bound replica",
        "fortified followers keep their leader (thesis 4.2.3)",
        Called(
            _ELECTION + "consider_pre_vote",
            before=lambda core, _, asked: asked.term > core.term and fortification.is_bound(core),
        ),
    ),
    Probe(
        "pre-vote refused for a shorter log",
        "a candidate that lacks entries is stopped before it raises its term",
        Called(
            _ELECTION + "consider_pre_vote",
            before=lambda core, _, asked: (
                not core.log.is_up_to_date(asked.last_index, asked.last_term)
            ),
        ),
    ),
    Probe(
        "pre-vote made way for another",
        "two that ask at once do not split the votes",
        Called(_ELECTION + "_goes_first", after=lambda first, *_: first),
    ),
    Probe(
        "vote refused for a shorter log",
        "paper 5.4.1 is what decides an election",
        Called(
            _ELECTION + "consider_vote",
            before=lambda core, source, asked: (
                core.vote in (NO_REPLICA, source)
                and not core.log.is_up_to_date(asked.last_index, asked.last_term)
            ),
        ),
    ),
    Probe(
        "vote refused, given to another",
        "two candidates met in one term",
        Called(
            _ELECTION + "consider_vote",
            before=lambda core, source, _: core.vote not in (NO_REPLICA, source),
        ),
    ),
    Probe(
        "vote request kept from raising the term",
        "a disruptive server is not followed (thesis 4.2.3)",
        Called(_ELECTION + "admits_vote_request", after=lambda admitted, *_: not admitted),
    ),
    Probe(
        "bound voter freed by the release in a vote request",
        "a transfer needs no wait for support to run out (rule S6)",
        Called(
            _ELECTION + "admits_vote_request",
            before=lambda core, _, asked: (
                asked.release is not None and fortification.is_bound(core)
            ),
            after=lambda admitted, *_: admitted,
        ),
    ),
    Probe(
        "no campaign for want of a quorum's support",
        "rule L3 keeps whom nobody hears from asking",
        Called(
            _ELECTION + "may_campaign",
            after=lambda may, core: not may and not fortification.has_quorum_support(core),
        ),
    ),
    Probe(
        "no campaign with a committed change unapplied",
        "rule S5: nobody campaigns under an outdated configuration",
        Called("multiraft.raft.membership:has_unapplied_configuration", after=lambda has, _: has),
    ),
    Probe(
        "election lost",
        "votes were split or refused after the term was raised",
        Called(_ELECTION + "_give_up", before=lambda core: core.role is Role.CANDIDATE),
    ),
    Probe(
        "pre-vote lost",
        "a term was saved",
        Called(_ELECTION + "_give_up", before=lambda core: core.role is Role.PRE_CANDIDATE),
    ),
    Probe(
        "leader met a higher term",
        "a leader is deposed by a message",
        Called(
            _ELECTION + "become_follower",
            before=lambda core, term, _: core.role is Role.LEADER and term > core.term,
        ),
    ),
    Probe(
        "leader gave up without a quorum",
        "clients of a cut-off leader are sent away",
        Called(
            _ELECTION + "check_quorum",
            before=lambda core: core.leadership is not None,
            after=lambda _, core: core.leadership is None,
        ),
    ),
    Probe(
        "candidate met the leader of its term",
        "a lost election ends without another one",
        Called(_ELECTION + "hear_leader", before=lambda core, _: core.role is Role.CANDIDATE),
    ),
    Probe(
        "commit index learnt from a pre-vote's answer",
        "an outdated configuration is left by who could never win under it",
        Called(
            _ELECTION + "learn_commit",
            before=lambda core, _, answer: (
                answer.commit_index > core.commit_index
                and core.log.matches(answer.commit_index, answer.commit_term)
            ),
        ),
    ),
    Probe(
        "former leader told that its term is over",
        "an append, fortification or snapshot of an old term arrived late",
        Called("multiraft.raft.dispatch:_depose"),
    ),
)

REPLICATION = (
    Probe(
        "conflicting suffix overwritten",
        "entries that never committed were replaced (paper 5.3)",
        Called("multiraft.raft.log:RaftLog._truncate_from"),
    ),
    Probe(
        "durable entries overwritten",
        "what was synced here, but on no quorum, was replaced",
        Called(
            "multiraft.raft.log:RaftLog._truncate_from",
            before=lambda log, index: index <= log.durable_index,
        ),
    ),
    Probe(
        "majority has an entry of an older term",
        "Figure 8 of the paper: not committed by counting",
        Called(_REPLICATION + "advance_commit", before=_is_figure_8),
    ),
    Probe(
        "append refused",
        "logs were compared and did not meet",
        Called(_REPLICATION + "_refuse"),
    ),
    Probe(
        "backtracking skipped entries at once",
        "the hint of a refusal saved round trips",
        Called(
            _REPLICATION + "_back_track",
            before=lambda _, progress, __: progress.state is ProgressState.PROBE,
            after=lambda _, __, progress, refusal: progress.next_index < refusal.rejected_index,
        ),
    ),
    Probe(
        "old refusal ignored",
        "an answer that was overtaken does not undo a match (trap T6)",
        Called(
            _REPLICATION + "_back_track",
            before=lambda _, progress, refusal: (
                progress.state is ProgressState.REPLICATE
                and refusal.rejected_index <= progress.match_index
            ),
        ),
    ),
    Probe(
        "append begins below the commit index",
        "an old or doubled append removes nothing (trap T6)",
        Called(
            _REPLICATION + "accept_entries",
            before=lambda core, _, append: append.prev_index < core.commit_index,
        ),
    ),
    Probe(
        "append begins behind the truncation point",
        "an append met a log that was compacted, or a snapshot, meanwhile",
        Called(
            _REPLICATION + "accept_entries",
            before=lambda core, _, append: append.prev_index < core.log.first_index - 1,
        ),
    ),
    Probe(
        "late sync of entries that were replaced",
        "rule A1: a sync vouches for what was written before it",
        Called(
            "multiraft.raft.log:RaftLog.synced",
            before=lambda log, term, index: index > log.written_index or log.term(index) != term,
        ),
    ),
    Probe(
        "member needs a snapshot",
        "the log no longer reaches back to a follower",
        Called("multiraft.raft.progress:Progress.become_snapshot"),
    ),
    Probe(
        "streaming turned to probing by a broken connection",
        "lost appends are found again (trap T22)",
        Called(
            _REPLICATION + "report_unreachable",
            before=lambda core, member: (
                core.leadership is not None
                and (progress := core.leadership.progress.get(member)) is not None
                and progress.state is ProgressState.REPLICATE
            ),
        ),
    ),
    Probe(
        "snapshot came where the log had caught up",
        "its data is dropped, its index believed",
        Called(
            "multiraft.raft.snapshot:accept_snapshot",
            before=lambda core, _, mark: (
                mark.last_index <= core.commit_index
                or core.log.term(mark.last_index) == mark.last_term
            ),
        ),
    ),
)

TRANSFERS_AND_MEMBERSHIP = (
    Probe("leadership handed over", "TimeoutNow left (thesis 3.10)", Said(raft.TimeoutNow)),
    Probe(
        "TimeoutNow came too late",
        "its receiver is in a later term, and ignores it",
        Called(
            "multiraft.raft.dispatch:_ignore",
            before=lambda _, __, message: type(message) is raft.TimeoutNow,
        ),
    ),
    Probe(
        "TimeoutNow to one that may not campaign",
        "rules S5 and L3 hold for the target of a transfer too",
        Called(
            "multiraft.raft.transfer:accept_timeout_now",
            after=lambda _, core, __, ___: core.role is not Role.CANDIDATE,
        ),
    ),
    Probe(
        "transfer given up by the leader",
        "the target did not catch up, and the leader serves again",
        Called(
            "multiraft.raft.transfer:tick",
            after=lambda _, core: (
                core.leadership is not None and core.leadership.transfer_target == NO_REPLICA
            ),
        ),
    ),
    Probe(
        "joint configuration in force",
        "two majorities decide (thesis 4.3)",
        Called(
            "multiraft.raft.core:RaftCore.apply_configuration",
            after=lambda _, __, configuration, ___: configuration.is_joint,
        ),
    ),
    Probe(
        "change refused while the former is not applied",
        "changes come one by one",
        _refuses(Refusal.CHANGE_PENDING),
    ),
    Probe(
        "change refused for a voter that has not fortified",
        "rule S4: a new voter is bound before it counts",
        _refuses(Refusal.NOT_FORTIFIED),
    ),
    Probe(
        "change refused for a promised lease",
        "rule S4: the lease is carried over",
        _refuses(Refusal.LEASE_NOT_CARRIED),
    ),
)

PROBES: tuple[Probe, ...] = (
    *ELECTIONS,
    *REPLICATION,
    *TRANSFERS_AND_MEMBERSHIP,
)
