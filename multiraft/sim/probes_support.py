"""Rare situations of fortification, and of support between stores."""

from multiraft.ids import NO_EPOCH
from multiraft.raft import messages as raft
from multiraft.sim.probing import Called, Probe, Said

_FORTIFICATION = "multiraft.raft.fortification:"
_SUPPORT = "multiraft.liveness.support:Support."

FORTIFICATION = (
    Probe(
        "fortification refused",
        "nobody is bound to whom his store does not support",
        Said(raft.FortifyReply, lambda reply: reply.epoch == NO_EPOCH),
    ),
    Probe(
        "fortification by a stranger refused",
        "a leader that is no member here yet cannot bind this replica",
        Called(
            _FORTIFICATION + "accept_fortify",
            before=lambda core, source, _: source not in core.configuration.members,
        ),
    ),
    Probe(
        "release sent",
        "a leader that stepped down frees its followers (rule L1)",
        Said(raft.ReleaseFortification),
    ),
    Probe(
        "release repeated",
        "a release was lost",
        Called(
            _FORTIFICATION + "send_releases",
            before=lambda core: core.releasing.retry_ticks > core.config.retry_ticks,
        ),
    ),
    Probe(
        "leader asked whether it still leads",
        "a follower doubts its leader because clients keep coming (rule L1)",
        Said(raft.StillLeading),
    ),
    Probe(
        "leader still leads",
        "the doubt was wrong, and fortification is renewed",
        Called(_FORTIFICATION + "answer_still_leading"),
    ),
    Probe(
        "former leader denied that it leads",
        "a follower that was bound for nothing is freed",
        Called(_FORTIFICATION + "deny_still_leading"),
    ),
)

SUPPORT = (
    Probe(
        "support withdrawn",
        "an epoch ended because its time was over",
        Called(
            _SUPPORT + "_set_grant", before=lambda _, __, grant: not grant.until and grant.epoch > 1
        ),
    ),
    Probe(
        "nothing withdrawn after a pause",
        "rule L4: renewals may wait to be read",
        Called(
            _SUPPORT + "tick",
            before=lambda support, now: 0 < support._ticked_at < now - 2 * support._interval,
        ),
    ),
    Probe(
        "epoch raised",
        "the asker learns that its support was withdrawn",
        Called(_SUPPORT + "_adopt"),
    ),
    Probe(
        "answer of an old epoch ignored",
        "a message from before a restart or withdrawal came late",
        Called(
            _SUPPORT + "_count",
            before=lambda support, node, reply, _: (
                (pair := support._pairs.get(node)) is not None and reply.epoch < pair.epoch
            ),
        ),
    ),
    Probe(
        "request of an old epoch answered with the present one",
        "the asker is told what it missed",
        Called(
            _SUPPORT + "_consider",
            before=lambda support, node, request, _: (
                node in support._granted and request.epoch < support._granted[node].epoch
            ),
        ),
    ),
    Probe(
        "request for support came after its end",
        "nothing is promised for the past",
        Called(_SUPPORT + "_consider", before=lambda _, __, request, now: request.until <= now),
    ),
    Probe(
        "frame refused for its clock",
        "one broken clock does not drag the others (trap T24)",
        Called("multiraft.liveness.heartbeats:Liveness.receive_refused"),
    ),
)

PROBES: tuple[Probe, ...] = (*FORTIFICATION, *SUPPORT)
