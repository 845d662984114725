"""The handshake's bytes stay what they are, and every refusal says what was expected."""

import msgspec
import pytest

from multiraft import errors
from multiraft.ids import NodeId, RangeId
from multiraft.model import descriptor, hlc, locality
from multiraft.net import handshake
from multiraft.net.handshake import Goodbye
from multiraft.net.transport import (
    ConnectionClass,
    FrameKind,
    Handler,
    Hello,
    NodeAddress,
    Welcome,
)

HELLO = Hello(
    1,
    ConnectionClass.RAFT,
    "cluster-1",
    NodeId(3),
    "127.0.0.1:7003",
    NodeId(2),
    locality.parse("host=b"),
)
WELCOME = Welcome(
    1,
    "cluster-1",
    NodeId(2),
    hlc.from_us(5),
    descriptor.initial_descriptor(RangeId(1), b"", b"\xff", (NodeId(2), NodeId(3))),
    (NodeAddress(NodeId(2), "127.0.0.1:7002", locality.parse("host=a")),),
)


def never(_: object) -> Handler:
    raise AssertionError("no handler is made here")


def test_hello_keeps_its_bytes_for_ever() -> None:
    packed = handshake.encode_hello(HELLO)
    assert packed.hex() == GOLDEN_HELLO
    assert handshake.decode_hello(packed) == HELLO


def test_welcome_keeps_its_bytes_for_ever() -> None:
    packed = handshake.encode_welcome(WELCOME)
    assert packed.hex() == GOLDEN_WELCOME
    assert handshake.decode_welcome(packed) == WELCOME


def test_goodbye_keeps_its_bytes_for_ever() -> None:
    packed = handshake.encode_goodbye("gone", "stopped")
    assert packed.hex() == GOLDEN_GOODBYE
    assert handshake.decode_goodbye(packed) == Goodbye("gone", "stopped")


GOLDEN_HELLO = "970101a9636c75737465722d3103ae3132372e302e302e313a37303033029192a4686f7374a162"
GOLDEN_WELCOME = (
    "9601a9636c75737465722d3102cd50009601c400c401ff0192930201019303020103919302ae3132"
    "372e302e302e313a373030329192a4686f7374a161"
)
HELLO_WITHOUT_LOCALITY = "960101a9636c75737465722d3103ae3132372e302e302e313a3730303302"
WELCOME_WITHOUT_LOCALITIES = (
    "9601a9636c75737465722d3102cd50009601c400c401ff0192930201019303020103919202ae3132"
    "372e302e302e313a37303032"
)
GOLDEN_GOODBYE = "92a4676f6e65a773746f70706564"


def test_what_a_node_says_that_knows_no_localities_is_understood() -> None:
    hello = handshake.decode_hello(bytes.fromhex(HELLO_WITHOUT_LOCALITY))
    assert hello == msgspec.structs.replace(HELLO, locality=())
    welcome = handshake.decode_welcome(bytes.fromhex(WELCOME_WITHOUT_LOCALITIES))
    assert welcome.nodes == (NodeAddress(NodeId(2), "127.0.0.1:7002"),)


def test_fields_that_a_newer_release_appended_are_ignored() -> None:
    later = msgspec.msgpack.encode([*msgspec.to_builtins(HELLO), "new", 7])
    assert handshake.decode_hello(later) == HELLO


def test_another_version_is_refused_naming_both_whatever_follows_it() -> None:
    with pytest.raises(errors.ProtocolError, match=r"version 9, this one speaks version 1"):
        handshake.decode_hello(msgspec.msgpack.encode([9, {"all": "different"}]))
    with pytest.raises(errors.ProtocolError, match=r"version 9, this one speaks version 1"):
        handshake.decode_welcome(msgspec.msgpack.encode([9]))


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x91\xc0", b"\x92\x01\x63", b"GET"])
def test_garbage_is_refused_in_place_of_each_struct(payload: bytes) -> None:
    with pytest.raises(errors.ProtocolError, match="Hello cannot be read"):
        handshake.decode_hello(payload)
    with pytest.raises(errors.ProtocolError, match="Welcome cannot be read"):
        handshake.decode_welcome(payload)
    with pytest.raises(errors.ProtocolError, match="Goodbye cannot be read"):
        handshake.decode_goodbye(payload)


def test_a_good_hello_gets_the_acceptors_answer() -> None:
    hello, welcome, make = handshake.answer(
        FrameKind.HELLO, handshake.encode_hello(HELLO), lambda _: (WELCOME, never)
    )
    assert (hello, welcome, make) == (HELLO, WELCOME, never)


def test_another_first_frame_than_hello_is_refused() -> None:
    with pytest.raises(errors.ProtocolError, match="must be HELLO, not RAFT"):
        handshake.answer(FrameKind.RAFT, b"", lambda _: (WELCOME, never))


def test_another_answer_than_welcome_is_refused() -> None:
    with pytest.raises(errors.ProtocolError, match="answered by RAFT"):
        handshake.accepted(FrameKind.RAFT, b"", HELLO, "there:1")


def test_the_accepting_side_refuses_another_cluster_and_names_both() -> None:
    payload = handshake.encode_hello(msgspec.structs.replace(HELLO, cluster_id="other"))
    with pytest.raises(errors.WrongClusterError, match=r"other was expected.*cluster-1"):
        handshake.answer(FrameKind.HELLO, payload, lambda _: (WELCOME, never))


def test_the_connecting_side_refuses_another_cluster_and_another_node() -> None:
    payload = handshake.encode_welcome(WELCOME)
    other = msgspec.structs.replace(HELLO, cluster_id="other")
    with pytest.raises(errors.WrongClusterError, match="other was expected"):
        handshake.accepted(FrameKind.WELCOME, payload, other, "there:1")
    replaced = msgspec.structs.replace(HELLO, target_node_id=NodeId(9))
    with pytest.raises(errors.WrongClusterError, match="n9 was expected, but n2 answered"):
        handshake.accepted(FrameKind.WELCOME, payload, replaced, "there:1")


def test_an_empty_cluster_id_fits_any_on_either_side() -> None:
    handshake.check_same_cluster(msgspec.structs.replace(HELLO, cluster_id=""), WELCOME)
    handshake.check_same_cluster(HELLO, msgspec.structs.replace(WELCOME, cluster_id=""))
    handshake.check_same_cluster(msgspec.structs.replace(HELLO, target_node_id=NodeId(0)), WELCOME)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("wrong_cluster", errors.WrongClusterError),
        ("protocol", errors.ProtocolError),
        ("config", errors.ProtocolError),
        ("a code of the future", errors.ProtocolError),
        ("overloaded", errors.NodeUnavailableError),
        ("stopped", errors.NodeUnavailableError),
        ("", errors.NodeUnavailableError),
    ],
)
def test_a_refusal_becomes_the_error_that_tells_what_to_do(
    code: str, kind: type[errors.MultiraftError]
) -> None:
    payload = handshake.encode_goodbye("because", code)
    with pytest.raises(kind) as caught:
        handshake.accepted(FrameKind.GOODBYE, payload, HELLO, "there:1")
    assert type(caught.value) is kind
    assert "because" in caught.value.message
    assert "there:1" in caught.value.message


def test_a_goodbye_stays_small_and_packable_whatever_the_reason() -> None:
    payload = handshake.encode_goodbye("\udc80 is not UTF-8 " + "\U0001f600" * 100_000)
    assert len(payload) < 4_096
    assert handshake.decode_goodbye(payload).reason.startswith("? is not UTF-8")


def test_a_hello_that_nests_too_deeply_is_refused() -> None:
    packed = handshake.encode_hello(HELLO)
    longer = bytes([packed[0] + 1]) + packed[1:] + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        handshake.decode_hello(longer)
