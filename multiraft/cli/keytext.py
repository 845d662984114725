r"""Keys and values between the bytes they are and the text people type and read.

Purpose
    On the command line a key is UTF-8 text in which `\xNN` stands for one byte and `\\` for a
    backslash. With `--hex` it is hexadecimal digits instead. In JSON, bytes that are UTF-8 text are
    a string; others are a string of hexadecimal digits in a member whose name ends in `_hex`.
Invariants
    - `parse(show(data)) == data` for any bytes.
    - `show` gives printable text on one line.
    - `from_json(name, to_json(name, data)) == data` for any bytes.
"""

import re
from typing import Any

HEX_SUFFIX = "_hex"

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(\\)|(.?.?.?))", re.DOTALL)
_LONE_BYTE_BASE = 0xDC00
"""With `surrogateescape` Python writes byte 0xNN that is not UTF-8 as the character 0xDCNN."""


class KeyTextError(ValueError):
    """The text does not stand for bytes. The message names the text and says what would."""


def parse(text: str, *, as_hex: bool = False) -> bytes:
    r"""Return the bytes that `text` stands for."""
    if as_hex:
        return _parse_hex(text)
    parts: list[bytes] = []
    position = 0
    for match in _ESCAPE.finditer(text):
        parts.append(_encode(text[position : match.start()]))
        digits, backslash, other = match.groups()
        if other is not None:
            raise KeyTextError(
                f"'{text}' has the unknown escape '{match.group()}': write \\xNN for a byte, "
                r"\\ for a backslash, or use --hex"
            )
        parts.append(b"\\" if backslash else bytes([int(digits, 16)]))
        position = match.end()
    parts.append(_encode(text[position:]))
    return b"".join(parts)


def literal(text: str, *, as_hex: bool = False) -> bytes:
    """Return the bytes of a value: hexadecimal digits, or the text exactly as it was typed."""
    return _parse_hex(text) if as_hex else _encode(text)


def show(data: bytes, *, as_hex: bool = False) -> str:
    """Return `data` as `parse` reads it, on one line, without anything a terminal would obey."""
    if as_hex:
        return data.hex()
    return "".join(map(_show_character, data.decode("utf-8", "surrogateescape")))


def show_value(data: bytes, *, as_hex: bool = False) -> str:
    """Return a value as people read it: text that is printable as it is, anything else escaped."""
    if as_hex:
        return data.hex()
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isprintable() else show(data)


def to_json(name: str, data: bytes) -> dict[str, str]:
    """Return the one member that carries `data` in a JSON object: `name`, or `name` + `_hex`."""
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {name + HEX_SUFFIX: data.hex()}


def from_json(name: str, members: dict[str, Any]) -> bytes:
    """Return the bytes that `to_json` wrote. Raises KeyTextError if they are not there."""
    if name in members:
        text = members[name]
        if not isinstance(text, str):
            raise KeyTextError(f"{name!r} must be a string, but is {text!r}")
        return text.encode()
    digits = members.get(name + HEX_SUFFIX)
    if not isinstance(digits, str):
        raise KeyTextError(f"neither {name!r} nor {name + HEX_SUFFIX!r} is there as a string")
    return _parse_hex(digits)


def _parse_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise KeyTextError(
            f"'{text}' is not hexadecimal: use an even number of digits 0-9 and a-f"
        ) from None


def _encode(text: str) -> bytes:
    # The shell may hand over bytes that are not UTF-8; Python keeps them as lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def _show_character(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character.isprintable():
        return character
    code = ord(character)
    if _LONE_BYTE_BASE <= code < _LONE_BYTE_BASE + 0x100:
        return f"\\x{code - _LONE_BYTE_BASE:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
