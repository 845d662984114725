import msgspec
import pytest

from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Configuration,
    Envelope,
    Fortify,
    FortifyReply,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Release,
    ReleaseFortification,
    ReleaseReply,
    RequestVote,
    RequestVoteReply,
    StillLeading,
    TimeoutNow,
)
from multiraft.raft.ready import HardState
from tests.support.raft_disk import entry

RELEASE = Release(ReplicaId(2), Term(7), Epoch(0), Timestamp(300))

# Fields are only ever appended, tags never reused: these bytes never change, they only get longer.
GOLDEN: list[tuple[Message, str]] = [
    (PreVote(Term(7), Index(9), Term(6)), "9401070906"),
    (PreVoteReply(Term(7), True, Index(9), Term(6)), "950207c30906"),
    (RequestVote(Term(7), Index(9), Term(6)), "9503070906c0"),
    (RequestVote(Term(7), Index(9), Term(6), RELEASE), "950307090694020700cd012c"),
    (RequestVoteReply(Term(7), False), "930407c2"),
    (
        AppendEntries(Term(7), Index(9), Term(6), (entry(7, 10, b"ab"),), Index(8)),
        "9605070906919407" + "0a01c402616208",
    ),
    (
        AppendEntriesReply(Term(7), True, Index(9), Index(8), epoch=Epoch(3)),
        "990607c3090800000003",
    ),
    (Fortify(Term(7), Epoch(3)), "93070703"),
    (FortifyReply(Term(7), Epoch(3)), "93080703"),
    (ReleaseFortification(Term(7), RELEASE), "93090794020700cd012c"),
    (ReleaseReply(Term(8), Term(7)), "930a0807"),
    (TimeoutNow(Term(7), RELEASE), "930b0794020700cd012c"),
    (
        InstallSnapshot(Term(7), Index(9), Term(6), Configuration((ReplicaId(1),))),
        "950c07090693910190" + "90",
    ),
    (StillLeading(Term(7)), "920d07"),
    (ReadIndex(Term(7), 5), "930e0705"),
    (ReadIndexReply(Term(7), 5), "930f0705"),
]


@pytest.mark.parametrize(
    ("message", "golden"), GOLDEN, ids=[type(message).__name__ for message, _ in GOLDEN]
)
def test_a_message_is_these_bytes_for_ever(message: Message, golden: str) -> None:
    assert msgspec.msgpack.encode(message).hex() == golden
    envelope = Envelope(ReplicaId(1), ReplicaId(2), message)
    packed = msgspec.msgpack.encode(envelope)
    assert packed.hex() == "930102" + golden
    assert msgspec.msgpack.decode(packed, type=Envelope) == envelope


def test_the_hard_state_is_these_bytes_for_ever() -> None:
    hard_state = HardState(Term(7), ReplicaId(2), Index(9), ReplicaId(3), Term(6), Epoch(4))
    assert msgspec.msgpack.encode(hard_state).hex() == "96070209030604"


def test_an_older_answer_to_a_pre_vote_tells_nothing_about_commits() -> None:
    packed = bytes.fromhex("9301029302" + "07c3")
    envelope = msgspec.msgpack.decode(packed, type=Envelope)
    assert envelope.message == PreVoteReply(Term(7), True, Index(0), Term(0))


def test_members_are_everybody_once_and_sorted() -> None:
    joint = Configuration(
        (ReplicaId(1), ReplicaId(4)), (ReplicaId(1), ReplicaId(3)), (ReplicaId(2),)
    )
    assert joint.members == (1, 2, 3, 4)
    assert joint.is_joint
    assert not Configuration((ReplicaId(1),)).is_joint
