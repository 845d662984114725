"""Requests to etcd in protocol buffers, as bodies of gRPC calls.

Format
    A body is one byte 0 (not compressed), the message's length in four bytes, big-endian, and the
    message. In a message a field is a varint of its number and type, then a varint (type 0), or a
    length and so many bytes (type 2). The field numbers are those of etcd's rpc.proto.
"""

import struct
from collections.abc import Sequence

import msgspec

from bench.compare.peer import FORMS, SCANS, Data, Operation

_PUT_KEY, _PUT_VALUE = 1, 2
_RANGE_KEY, _RANGE_END, _RANGE_LIMIT = 1, 2, 3
_TXN_SUCCESS = 2
_REQUEST_PUT = 2


class Calls(msgspec.Struct, frozen=True):
    """Calls of one method, which are made in turn, again and again."""

    path: str
    bodies: Sequence[bytes]
    answer_bytes_min: int = 0
    """A shorter answer lacks rows."""


def calls(operation: Operation, data: Data) -> Calls:
    """Return the calls that an operation consists of."""
    groups, value = data.groups(operation), data.value
    if operation is Operation.PUT:
        return _calls("Put", [put(data.key(number), value) for (number,) in groups])
    if operation is Operation.GET:
        gets = [key_range(data.key(number)) for (number,) in groups]
        return _calls("Range", gets, len(value))
    if operation in SCANS:
        rows = FORMS[operation].rows
        scans = [key_range(data.key(number), data.end, rows) for (number,) in groups]
        return _calls("Range", scans, rows * len(value))
    puts = ([put(data.key(number), value) for number in group] for group in groups)
    return _calls("Txn", list(map(txn, puts)))


def _calls(method: str, messages: Sequence[bytes], answer_bytes_min: int = 0) -> Calls:
    bodies = [framed(message) for message in messages]
    return Calls(f"/etcdserverpb.KV/{method}", bodies, answer_bytes_min)


def put(key: bytes, value: bytes) -> bytes:
    """Return a PutRequest."""
    return _bytes_field(_PUT_KEY, key) + _bytes_field(_PUT_VALUE, value)


def key_range(key: bytes, end: bytes = b"", limit: int = 0) -> bytes:
    """Return a RangeRequest, linearizable as is the default: of one key, or of those below `end`.

    Fields with their default values are left out, as is the rule.
    """
    message = _bytes_field(_RANGE_KEY, key)
    if end:
        message += _bytes_field(_RANGE_END, end)
    if limit:
        message += _varint(_RANGE_LIMIT << 3) + _varint(limit)
    return message


def txn(puts: Sequence[bytes]) -> bytes:
    """Return a TxnRequest without conditions that makes these PutRequests."""
    return b"".join(_bytes_field(_TXN_SUCCESS, _bytes_field(_REQUEST_PUT, each)) for each in puts)


def framed(message: bytes) -> bytes:
    """Return a message as the body of a gRPC call."""
    return struct.pack(">BI", 0, len(message)) + message


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
