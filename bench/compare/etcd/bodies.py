"""Requests to etcd in protocol buffers, as bodies of gRPC calls.

Format
    A body is one byte 0 (not compressed), the message's length in four bytes, big-endian, and the
    message. In a message a field is a varint of its number and type, then a varint (type 0), or a
    length and so many bytes (type 2). The field numbers are those of etcd's rpc.proto.
"""

import struct

from bench.compare.peer import FORMS, SCANS, Data, Operation

PATHS = {
    Operation.PUT: "/etcdserverpb.KV/Put",
    Operation.GET: "/etcdserverpb.KV/Range",
    Operation.SCAN_100: "/etcdserverpb.KV/Range",
    Operation.SCAN_1000: "/etcdserverpb.KV/Range",
    Operation.TXN: "/etcdserverpb.KV/Txn",
    Operation.BATCH: "/etcdserverpb.KV/Txn",
}

_PUT_KEY, _PUT_VALUE = 1, 2
_RANGE_KEY, _RANGE_END, _RANGE_LIMIT = 1, 2, 3
_TXN_SUCCESS = 2
_REQUEST_PUT = 2


def bodies(operation: Operation, data: Data) -> list[bytes]:
    """Return one body for each request, in the order in which they are made."""
    groups, value = data.groups(operation), data.value
    if operation is Operation.PUT:
        messages = [put(data.key(number), value) for (number,) in groups]
    elif operation is Operation.GET:
        messages = [key_range(data.key(number)) for (number,) in groups]
    elif operation in SCANS:
        limit = FORMS[operation].rows
        messages = [key_range(data.key(number), data.end, limit) for (number,) in groups]
    else:
        messages = [txn([put(data.key(number), value) for number in group]) for group in groups]
    return [framed(message) for message in messages]


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


def txn(puts: list[bytes]) -> bytes:
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
