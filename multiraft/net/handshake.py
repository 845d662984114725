"""The first frames of a connection, and the last one: Hello, Welcome, Goodbye.

Purpose
    Let two ends agree, before anything else, that they speak the same version and belong to the
    same cluster; and let either end say why it closes.
Invariants
    - The version is checked before anything else is decoded, so that two versions can always tell
      each other which they are. It stays the first field of Hello and Welcome for ever.
    - A refusal names what was expected and what was found.
Format
    Each is a msgpack array in the field order of its struct; fields are only ever appended.
"""

from collections.abc import Callable

import msgspec

from multiraft import errors
from multiraft.model import encoding
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Acceptor,
    Connection,
    FrameKind,
    Handler,
    Hello,
    Welcome,
)


class Goodbye(msgspec.Struct, frozen=True, array_like=True):
    """The last frame of either side. `code` is that of an error, or empty for an ordinary end."""

    reason: str
    code: str = ""


class _Version(msgspec.Struct, frozen=True, array_like=True):
    protocol_version: int


_encode = msgspec.msgpack.Encoder().encode
_decode_version = msgspec.msgpack.Decoder(_Version).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_welcome = msgspec.msgpack.Decoder(Welcome).decode
_decode_goodbye = msgspec.msgpack.Decoder(Goodbye).decode

# Refusals that say "not now" or "not here": the router may try again, at another node first.
_TRY_ELSEWHERE = (errors.RetryableError, errors.StoppedError)

_REASON_CHARACTERS_MAX = 1_000


def encode_hello(hello: Hello) -> bytes:
    """Return the payload of a HELLO frame."""
    return _encode(hello)


def encode_welcome(welcome: Welcome) -> bytes:
    """Return the payload of a WELCOME frame, or of an answer of kind CLUSTER_INFO."""
    return _encode(welcome)


def encode_goodbye(reason: str, code: str = "") -> bytes:
    """Return the payload of a GOODBYE frame; a very long reason is cut."""
    # File names that are not UTF-8 reach messages as lone surrogates, which cannot be packed.
    packable = reason[:_REASON_CHARACTERS_MAX].encode("utf-8", "replace").decode("utf-8")
    return _encode(Goodbye(packable, code))


def decode_hello(payload: bytes) -> Hello:
    """Return the Hello. Raises ProtocolError if it is not one, or of another version."""
    try:
        _check_version(_decode_version(payload).protocol_version)
        return _decode_hello(payload)
    except encoding.UNREADABLE as error:
        raise errors.ProtocolError(reason=f"the Hello cannot be read: {error}") from error


def decode_welcome(payload: bytes) -> Welcome:
    """Return the Welcome. Raises ProtocolError if it is not one, or of another version."""
    try:
        _check_version(_decode_version(payload).protocol_version)
        return _decode_welcome(payload)
    except encoding.UNREADABLE as error:
        raise errors.ProtocolError(reason=f"the Welcome cannot be read: {error}") from error


def decode_goodbye(payload: bytes) -> Goodbye:
    """Return the Goodbye. Raises ProtocolError if it is not one."""
    try:
        return _decode_goodbye(payload)
    except encoding.UNREADABLE as error:
        raise errors.ProtocolError(reason=f"the Goodbye cannot be read: {error}") from error


def answer(
    kind: FrameKind, payload: bytes, accept: Acceptor
) -> tuple[Hello, Welcome, Callable[[Connection], Handler]]:
    """Judge the first frame that an accepting side receives.

    Raises the MultiraftError with which to refuse: ours, or the acceptor's.
    """
    if kind is not FrameKind.HELLO:
        raise errors.ProtocolError(reason=f"the first frame must be HELLO, not {kind.name}")
    hello = decode_hello(payload)
    welcome, make_handler = accept(hello)
    check_same_cluster(hello, welcome)
    return hello, welcome, make_handler


def accepted(kind: FrameKind, payload: bytes, hello: Hello, address: str) -> Welcome:
    """Judge the first frame that a connecting side receives as the answer to its `hello`.

    Raises WrongClusterError, ProtocolError or NodeUnavailableError, whether we refuse or they did.
    """
    if kind is FrameKind.GOODBYE:
        raise refusal(decode_goodbye(payload), address)
    if kind is not FrameKind.WELCOME:
        raise errors.ProtocolError(reason=f"Hello was answered by {kind.name}, not by WELCOME")
    welcome = decode_welcome(payload)
    check_same_cluster(hello, welcome)
    return welcome


def check_same_cluster(hello: Hello, welcome: Welcome) -> None:
    """Raise WrongClusterError if the two ends do not mean each other.

    An empty cluster ID fits any, on either side: clients, and nodes that have not joined yet.
    """
    if hello.cluster_id and welcome.cluster_id and hello.cluster_id != welcome.cluster_id:
        raise errors.WrongClusterError(
            f"cluster {hello.cluster_id} was expected, but n{welcome.node_id} belongs to cluster "
            f"{welcome.cluster_id}; check the addresses of the nodes"
        )
    if hello.target_node_id and hello.target_node_id != welcome.node_id:
        raise errors.WrongClusterError(
            f"n{hello.target_node_id} was expected, but n{welcome.node_id} answered; "
            "the address now belongs to another node"
        )


def refusal(goodbye: Goodbye, address: str) -> errors.MultiraftError:
    """Return the error that a connection attempt ends with when `goodbye` is the answer."""
    kind = errors.BY_CODE.get(goodbye.code, errors.ProtocolError)
    if issubclass(kind, errors.WrongClusterError):
        return errors.WrongClusterError(f"{address} refused: {goodbye.reason}")
    if not goodbye.code or issubclass(kind, _TRY_ELSEWHERE):
        return errors.NodeUnavailableError(target=address, reason=goodbye.reason)
    return errors.ProtocolError(reason=f"{address} refused: {goodbye.reason}")


def _check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        raise errors.ProtocolError(
            reason=f"the other end speaks protocol version {version}, this one speaks version "
            f"{PROTOCOL_VERSION}; run the same release on both"
        )
