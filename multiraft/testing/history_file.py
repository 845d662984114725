"""Histories as JSON lines: one operation a line, as docs/history-format.md describes.

Format
    An object with the members of `Operation`; those that are None may be missing. Bytes are
    `{"hex": "00ff"}` wherever they stand, tuples are arrays, anything else is itself. Empty lines
    are passed over.
Invariants
    - What `save` writes, `load` reads back equal.
    - A file that cannot be used is refused with the number of the line and the reason.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from multiraft.testing.history import Operation, frozen

_FREE = ("key", "argument", "result")
"""The members that hold values of the user's."""

NESTING_MAX = 100
"""How deep arrays may stand in one another."""

_MAY_BE_TOO_LARGE = re.compile(rb"[0-9]{19}")
_DIGITS_MAX = 20
"""Of an integer of 64 bits, with its sign."""


class BadHistoryError(ValueError):
    """The file, or an operation in it, is not a history that the checker can judge."""


def save(path: Path | str, operations: Iterable[Operation]) -> None:
    """Write operations to a file, replacing it. Raises OSError."""
    with Path(path).open("wb") as stream:
        for operation in operations:
            stream.write(encode(operation))


def load(path: Path | str) -> tuple[Operation, ...]:
    """Read the operations of a file, in its order. Raises BadHistoryError, or OSError."""
    with Path(path).open("rb") as stream:
        return read(stream)


def read(stream: BinaryIO) -> tuple[Operation, ...]:
    """Read the operations of an open file. Raises BadHistoryError."""
    operations: list[Operation] = []
    lines: dict[int, int] = {}
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            operation = decode(line)
        except BadHistoryError as error:
            raise BadHistoryError(f"line {number}: {error}") from None
        first = lines.setdefault(operation.id, number)
        if first != number:
            raise BadHistoryError(f"line {number}: the id {operation.id} is that of line {first}")
        operations.append(operation)
    return tuple(operations)


def encode(operation: Operation) -> bytes:
    """Return an operation as a line, with its line end.

    Raises BadHistoryError for numbers that are too large and arrays that are too deep.
    """
    try:
        members = {
            name: _to_json(value) if name in _FREE else value
            for name, value in msgspec.structs.asdict(operation).items()
            if value is not None
        }
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, BadHistoryError) as error:
        raise BadHistoryError(f"operation {operation.id} cannot be written: {error}") from None


def decode(line: bytes) -> Operation:
    """Return the operation of a line. Raises BadHistoryError."""
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadHistoryError(f"not JSON: {error.msg}, at column {error.colno}") from None
    if not isinstance(members, dict):
        raise BadHistoryError("not an object")
    unknown = sorted(members.keys() - set(Operation.__struct_fields__))
    if unknown:
        raise BadHistoryError(f"no operation has a member {unknown[0]!r}")
    for name in _FREE:
        if name in members:
            members[name] = _from_json(name, members[name])
    try:
        operation = msgspec.convert(members, Operation)
    except msgspec.ValidationError as error:
        raise BadHistoryError(str(error)) from None
    _check_moments(operation)
    if _MAY_BE_TOO_LARGE.search(line):  # Last, when arrays are known not to be too deep for this.
        json.loads(line, parse_int=_check_integer)
    return operation


def _check_integer(digits: str) -> None:
    """Refuse what orjson takes for a number with a fraction, so that it equals its neighbours."""
    if len(digits) > _DIGITS_MAX or not -(2**63) <= int(digits) < 2**64:
        raise BadHistoryError(f"{digits[:_DIGITS_MAX]}... is no integer of 64 bits")


def _check_moments(operation: Operation) -> None:
    if operation.completed is None:
        if operation.outcome != "unknown":
            raise BadHistoryError(f"the outcome is {operation.outcome}, but `completed` is missing")
    elif operation.completed < operation.invoked:
        raise BadHistoryError("`completed` lies before `invoked`")


def _to_json(value: object, depth: int = 0) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        _check_depth(depth)
        return [_to_json(item, depth + 1) for item in value]
    return value


def _from_json(name: str, value: object, depth: int = 0) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        _check_depth(depth)
        return tuple(_from_json(name, item, depth + 1) for item in value)
    if not isinstance(value, dict):
        return frozen(value)
    digits = value.get("hex")
    if len(value) != 1 or not isinstance(digits, str):
        raise BadHistoryError(
            f'`{name}` holds an object: only {{"hex": "00ff"}}, bytes, may be one'
        )
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise BadHistoryError(f"`{name}`: {error}") from None


def _check_depth(depth: int) -> None:
    if depth >= NESTING_MAX:
        raise BadHistoryError(f"more than {NESTING_MAX} arrays stand in one another")
