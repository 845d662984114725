"""Frames: how a stream of bytes is cut into payloads, and how damage is noticed.

Purpose
    Turn (kind, payload) into bytes, and bytes back into (kind, payload) however they were torn.
Format
    All numbers big-endian:

        length    u32    bytes of the payload; may be 0
        checksum  u64    xxh3_64 of the payload, with the kind as seed
        kind      u8     a transport.FrameKind
        payload   length bytes

    The seed makes the checksum cover the kind without joining it to the payload. The length needs
    no cover: a wrong one cuts another payload out of the stream, and the checksum fails.
Invariants
    - A payload that is handed out is the one that was encoded, under the same kind.
    - A length over the limit is refused as soon as its four bytes are there; nothing is ever
      allocated because a length was announced, only because bytes arrived.
    - Work and copies are linear in the bytes fed, whether frames are tiny or huge, and whether they
      come in one piece or byte by byte.
"""

import struct
from collections.abc import Iterator

import xxhash

from multiraft import errors
from multiraft.net.transport import FrameKind

HEADER_BYTES = 13

_LENGTH_BYTES = 4
_header = struct.Struct(">IQB")
_checksum = xxhash.xxh3_64_intdigest
_KINDS: dict[int, FrameKind] = {int(kind): kind for kind in FrameKind}

assert _header.size == HEADER_BYTES, "the header's format and its documented size differ"


def header(kind: FrameKind, payload: bytes) -> bytes:
    """Return the bytes that precede `payload` in its frame."""
    return _header.pack(len(payload), _checksum(payload, kind), kind)


def encode(kind: FrameKind, payload: bytes) -> bytes:
    """Return the whole frame in one piece."""
    return header(kind, payload) + payload


class FrameParser:
    """Cuts one stream into frames. After a ProtocolError the stream is lost: feed nothing more.

    `limit_bytes` is the longest payload accepted; it may be changed between two frames, and counts
    from the next one on.
    """

    __slots__ = ("_partial", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._partial = bytearray()  # the beginning of one frame, never a whole one

    @property
    def partial_bytes(self) -> int:
        """How many bytes of an unfinished frame are kept: above 0 when the stream was torn."""
        return len(self._partial)

    def feed(self, data: bytes) -> Iterator[tuple[FrameKind, bytes]]:
        """Take the next bytes of the stream and yield the frames that they complete, in order.

        The result must be used up before the next call. Raises ProtocolError at the frame that is
        wrong, after the good ones before it.
        """
        position = 0
        if self._partial:
            position = self._complete(data)
            if position < 0:
                return
            yield self._take_partial()
        size = len(data)
        while size - position >= HEADER_BYTES:
            length, checksum, number = _header.unpack_from(data, position)
            if length > self.limit_bytes:
                raise _too_long(length, self.limit_bytes)
            start = position + HEADER_BYTES
            stop = start + length
            if stop > size:
                break
            position = stop
            yield _verified(data[start:stop], checksum, number)
        if position < size:
            self._partial += data[position:]
            self._check_length()

    def _complete(self, data: bytes) -> int:
        """Move bytes from `data` until the partial frame is whole; return how many, or -1."""
        partial = self._partial
        taken = 0
        if len(partial) < HEADER_BYTES:
            taken = HEADER_BYTES - len(partial)
            partial += data[:taken]
            self._check_length()
            if len(partial) < HEADER_BYTES:
                return -1
        length = int.from_bytes(partial[:_LENGTH_BYTES], "big")
        missing = HEADER_BYTES + length - len(partial)
        partial += data[taken : taken + missing]
        taken += missing
        return taken if taken <= len(data) else -1

    def _check_length(self) -> None:
        """Refuse a partial frame whose length is known already and too great."""
        if len(self._partial) >= _LENGTH_BYTES:
            length = int.from_bytes(self._partial[:_LENGTH_BYTES], "big")
            if length > self.limit_bytes:
                raise _too_long(length, self.limit_bytes)

    def _take_partial(self) -> tuple[FrameKind, bytes]:
        """Return the frame that `_complete` made whole, and forget its bytes."""
        _, checksum, number = _header.unpack_from(self._partial)
        with memoryview(self._partial) as view:
            payload = bytes(view[HEADER_BYTES:])
        self._partial = bytearray()
        return _verified(payload, checksum, number)


def _verified(payload: bytes, checksum: int, number: int) -> tuple[FrameKind, bytes]:
    if _checksum(payload, number) != checksum:
        raise errors.ProtocolError(
            reason=f"a frame of {len(payload)} bytes does not match its checksum"
        )
    kind = _KINDS.get(number)
    if kind is None:
        raise errors.ProtocolError(reason=f"frames of kind {number} are not known")
    return kind, payload


def _too_long(length: int, limit: int) -> errors.ProtocolError:
    return errors.ProtocolError(
        reason=f"a frame of {length} bytes is announced, at most {limit} are accepted here; "
        "does the other end speak this protocol, with the same TLS setting?"
    )
