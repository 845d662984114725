"""The parser gets every way in which a stream can be torn or damaged."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft import errors
from multiraft.net import frames
from multiraft.net.frames import FrameParser
from multiraft.net.transport import FrameKind

LIMIT = 1 << 20

Frame = tuple[FrameKind, bytes]

EXAMPLES: list[Frame] = [
    (FrameKind.CLUSTER_INFO, b""),
    (FrameKind.RAFT, b"x"),
    (FrameKind.REQUESTS, bytes(range(256))),
    (FrameKind.REPLIES, b"\x00" * 12),
    (FrameKind.SNAPSHOT, b"s" * 1_000),
]

any_frame = st.tuples(st.sampled_from(FrameKind), st.binary(max_size=300))


def encode_all(examples: list[Frame]) -> bytes:
    return b"".join(frames.encode(kind, payload) for kind, payload in examples)


def parse(*reads: bytes, limit: int = LIMIT) -> list[Frame]:
    parser = FrameParser(limit)
    return [frame for read in reads for frame in parser.feed(read)]


def test_the_bytes_of_a_frame_are_these_for_ever() -> None:
    assert frames.encode(FrameKind.RAFT, b"abc").hex() == GOLDEN_RAFT_ABC
    assert frames.encode(FrameKind.CLUSTER_INFO, b"").hex() == GOLDEN_CLUSTER_INFO


GOLDEN_RAFT_ABC = "000000039a01c4dc454296780a616263"
GOLDEN_CLUSTER_INFO = "00000000e02f5bff2791e6e416"


def test_kinds_keep_their_numbers_for_ever() -> None:
    assert {kind.name: kind.value for kind in FrameKind} == {
        "HELLO": 1,
        "WELCOME": 2,
        "GOODBYE": 3,
        "RAFT": 10,
        "REQUESTS": 20,
        "REPLIES": 21,
        "CLUSTER_INFO": 22,
        "JOIN": 23,
        "JOINED": 24,
        "SNAPSHOT": 30,
        "SNAPSHOT_REPLY": 31,
    }


def test_header_and_payload_make_the_frame() -> None:
    head = frames.header(FrameKind.RAFT, b"abc")
    assert len(head) == frames.HEADER_BYTES
    assert head + b"abc" == frames.encode(FrameKind.RAFT, b"abc")


def test_frames_in_one_read_come_out_in_order() -> None:
    assert parse(encode_all(EXAMPLES)) == EXAMPLES


def test_frames_torn_at_any_byte_come_out_whole() -> None:
    stream = encode_all(EXAMPLES)
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == EXAMPLES, cut


def test_frames_fed_byte_by_byte_come_out_whole() -> None:
    stream = encode_all(EXAMPLES)
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == EXAMPLES


@given(st.lists(any_frame), st.lists(st.integers(0, 5_000)))
def test_frames_torn_anyhow_come_out_whole(examples: list[Frame], cuts: list[int]) -> None:
    stream = encode_all(examples)
    bounds = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    assert parse(*(stream[a:b] for a, b in pairwise(bounds))) == examples


def test_an_unfinished_frame_is_kept_and_counted() -> None:
    parser = FrameParser(LIMIT)
    stream = frames.encode(FrameKind.RAFT, b"abc")
    for size in range(1, len(stream)):
        parser = FrameParser(LIMIT)
        assert list(parser.feed(stream[:size])) == []
        assert parser.partial_bytes == size
    assert list(parser.feed(stream[-1:])) == [(FrameKind.RAFT, b"abc")]
    assert parser.partial_bytes == 0


def test_every_flipped_bit_is_noticed() -> None:
    good = (FrameKind.RAFT, b"a payload")
    stream = encode_all([good, (FrameKind.REPLIES, b"behind")])
    first_bytes = frames.HEADER_BYTES + len(good[1])
    for bit in range(8 * first_bytes):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        parser = FrameParser(LIMIT)
        try:
            found = list(parser.feed(bytes(damaged)))
        except errors.ProtocolError:
            continue
        # A longer length is noticed when the bytes that it promises have come; until then, nothing
        # of the stream may get through.
        assert found == [], bit
        with pytest.raises(errors.ProtocolError):
            list(parser.feed(bytes(LIMIT)))


@pytest.mark.parametrize("length", [LIMIT + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_over_the_limit_is_refused_once_its_four_bytes_are_there(length: int) -> None:
    announced = length.to_bytes(4, "big")
    parser = FrameParser(LIMIT)
    assert list(parser.feed(announced[:3])) == []
    with pytest.raises(errors.ProtocolError, match=f"{length} bytes is announced"):
        list(parser.feed(announced[3:]))
    with pytest.raises(errors.ProtocolError, match=f"{length} bytes is announced"):
        parse(announced + b"rest of a header and more")
    with pytest.raises(errors.ProtocolError, match=f"{length} bytes is announced"):
        parse(announced)


def test_the_limit_itself_is_accepted() -> None:
    frame = (FrameKind.SNAPSHOT, b"x" * 100)
    assert parse(encode_all([frame]), limit=100) == [frame]
    with pytest.raises(errors.ProtocolError):
        parse(encode_all([frame]), limit=99)


def test_an_announced_length_allocates_nothing() -> None:
    parser = FrameParser((1 << 32) - 1)
    list(parser.feed(((1 << 32) - 1).to_bytes(4, "big") + bytes(9) + b"x"))
    assert parser._partial.__sizeof__() < 1_000


def test_the_limit_may_rise_between_two_frames_of_one_read() -> None:
    parser = FrameParser(4)
    seen: list[Frame] = []
    for frame in parser.feed(encode_all([(FrameKind.HELLO, b"hi"), (FrameKind.RAFT, b"longer")])):
        seen.append(frame)
        parser.limit_bytes = 100
    assert seen == [(FrameKind.HELLO, b"hi"), (FrameKind.RAFT, b"longer")]


def test_good_frames_before_a_bad_one_come_out() -> None:
    parser = FrameParser(LIMIT)
    seen: list[Frame] = []
    with pytest.raises(errors.ProtocolError):
        seen.extend(parser.feed(encode_all(EXAMPLES) + b"\xff" * 20))
    assert seen == EXAMPLES


def test_a_kind_that_is_not_known_is_named() -> None:
    stream = bytearray(frames.encode(FrameKind.HELLO, b"abc"))
    stream[: frames.HEADER_BYTES] = frames.header(99, b"abc")  # type: ignore[arg-type]
    with pytest.raises(errors.ProtocolError, match="kind 99"):
        parse(bytes(stream))


def test_what_other_protocols_send_first_is_refused_at_once() -> None:
    for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n"):
        with pytest.raises(errors.ProtocolError):
            parse(greeting, limit=4_096)


def test_a_hundred_thousand_damaged_frames_give_protocol_errors_or_what_was_sent() -> None:
    rng = random.Random(7)
    sent = [(rng.choice(list(FrameKind)), rng.randbytes(rng.randrange(60))) for _ in range(10)]
    stream = encode_all(sent)
    refused = 0
    for _ in range(10_000):
        damaged = bytearray(stream)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        parser = FrameParser(LIMIT)
        seen: list[Frame] = []
        cut = rng.randrange(len(damaged))
        try:
            seen.extend(parser.feed(bytes(damaged[:cut])))
            seen.extend(parser.feed(bytes(damaged[cut:])))
        except errors.ProtocolError:
            refused += 1
        assert seen == sent[: len(seen)]
    assert refused > 5_000


@given(st.lists(st.binary(max_size=100)))
def test_any_bytes_give_frames_or_a_protocol_error(reads: list[bytes]) -> None:
    parser = FrameParser(1_000)
    try:
        for read in reads:
            list(parser.feed(read))
    except errors.ProtocolError:
        return
    assert parser.partial_bytes == sum(map(len, reads)), "nothing random passes a checksum"


def test_a_frame_at_the_limit_may_come_in_tiny_reads() -> None:
    frame = (FrameKind.SNAPSHOT, bytes(LIMIT))
    stream = encode_all([frame])
    assert parse(*(stream[at : at + 97] for at in range(0, len(stream), 97))) == [frame]
