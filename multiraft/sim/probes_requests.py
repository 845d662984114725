"""Rare situations of requests and of the clients that send them."""

from multiraft import errors
from multiraft.sim.probing import Called, Probe, Refused

_HOLDER = "multiraft.ranges.leaseholder:Leaseholder."
_PURSUIT = "multiraft.client.pursuit:Pursuit."

REQUESTS = (
    Probe(
        "request waited for the lease or the clock",
        "it is looked at again in full when support is renewed",
        Called(_HOLDER + "wait"),
    ),
    Probe(
        "request refused after its wait",
        "a lease that does not come back sends clients away",
        Called(
            _HOLDER + "wait",
            before=lambda holder, pending, _reached=0: (
                bool(pending.deadline) and holder.context.clock.monotonic() >= pending.deadline
            ),
        ),
    ),
    Probe(
        "evaluated request stepped back",
        "the lease was checked again after the latches (trap T10)",
        Called("multiraft.ranges.pending:Pending.step_back"),
    ),
    Probe(
        "term lost with commands in flight",
        "their outcome is for the next attempt to find",
        Called(
            "multiraft.ranges.proposals:Proposals.drain", after=lambda drained, _: bool(drained)
        ),
    ),
    Probe(
        "write-once found an earlier attempt",
        "rule S8: a retry is not applied twice (trap T20)",
        Called(
            "multiraft.ranges.commands.writes:replay", after=lambda found, *_: found is not None
        ),
    ),
    Probe(
        "outcome written",
        "a part that changed nothing leaves its trace (rule S7)",
        Called("multiraft.ranges.commands.writes:_leave_outcomes"),
    ),
    Probe(
        "recent writes did not know",
        "versions were searched for an earlier attempt (rule L7)",
        Called(
            "multiraft.concurrency.recent_writes:RecentWrites.knows_absence",
            after=lambda knows, *_: not knows,
        ),
    ),
    Probe("refused: not leaseholder", "a client is sent on", Refused(errors.NotLeaseholderError)),
    Probe("refused: wrong range", "a client learns of a split", Refused(errors.RangeMismatchError)),
    Probe(
        "refused: no replica here", "a replica has moved away", Refused(errors.RangeNotFoundError)
    ),
    Probe("refused: overloaded", "queues have a limit", Refused(errors.OverloadedError)),
    Probe(
        "refused: clock", "a time too far ahead is not waited for", Refused(errors.ClockOffsetError)
    ),
    Probe(
        "refused: another change",
        "changes exclude each other",
        Refused(errors.ConflictingChangeError),
    ),
    Probe("refused: disk full", "writes end before the disk does", Refused(errors.DiskFullError)),
    Probe(
        "refused: too old", "an attempt outside of the window", Refused(errors.OutcomeUnknownError)
    ),
)

CLIENTS = (
    Probe(
        "range cache repaired",
        "a client that missed a split finds its way",
        Called(_PURSUIT + "_wrong_range"),
    ),
    Probe("client forgot a leader", "it does not insist", Called(_PURSUIT + "_forget_leader")),
    Probe("client's node failed", "another one is asked", Called(_PURSUIT + "_node_failed")),
    Probe(
        "client found no replica where it looked",
        "descriptors are read anew",
        Called(_PURSUIT + "_no_replica"),
    ),
    Probe(
        "deadline passed with the outcome open",
        "the client is told that it is unknown",
        Called(
            "multiraft.client.calls:Call.expire",
            after=lambda _, call: (
                call.future.done()
                and not call.future.cancelled()
                and isinstance(call.future.exception(), errors.OutcomeUnknownError)
            ),
        ),
    ),
)

PROBES: tuple[Probe, ...] = (*REQUESTS, *CLIENTS)
