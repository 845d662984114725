"""The demo's data: the Unicode Character Database as it comes with Python.

Rows
    One for every code point that is assigned and has a name. The key is `U+01F600`: six digits,
    zero-padded, so that keys sort by code point. The value is JSON with name, category,
    bidirectional class, numeric value and decomposition.
Sections
    Where the demo splits: at starts of Unicode blocks, so that the parts are of similar size as far
    as blocks allow (CJK extension B alone has 42,720 characters).
"""

import bisect
import sys
import unicodedata
from collections.abc import Iterator

import msgspec

KEY_PREFIX = "U+"


class Section(msgspec.Struct, frozen=True):
    """A stretch of code points that becomes one range."""

    name: str
    first: int

    @property
    def start_key(self) -> bytes:
        """The key at which its range begins."""
        return key_of(self.first)


SECTIONS = (
    Section("Latin to symbols", 0x0000),
    Section("CJK extension A", 0x3400),
    Section("CJK ideographs", 0x4E00),
    Section("Yi, Hangul", 0xA000),
    Section("Scripts, emoji", 0x10000),
    Section("CJK extension B", 0x20000),
    Section("CJK ext. C to E", 0x2A700),
    Section("CJK ext. F on", 0x2CEB0),
)


class Character(msgspec.Struct, frozen=True, gc=False):
    """A row's value. `revision` comes last: it counts how often the demo has rewritten the row."""

    name: str
    category: str
    bidirectional: str
    numeric: float | None
    decomposition: str
    revision: int = 0


def version() -> str:
    """Return the version of the database."""
    return unicodedata.unidata_version


def key_of(code_point: int) -> bytes:
    """Return the key of a code point's row."""
    return f"{KEY_PREFIX}{code_point:06X}".encode()


def all_characters() -> Iterator[tuple[int, Character]]:
    """Yield every assigned, named code point in order, with its properties."""
    for code_point in range(sys.maxunicode + 1):
        character = chr(code_point)
        name = unicodedata.name(character, "")
        if name:
            yield (
                code_point,
                Character(
                    name,
                    unicodedata.category(character),
                    unicodedata.bidirectional(character),
                    unicodedata.numeric(character, None),
                    unicodedata.decomposition(character),
                ),
            )


def value_of(character: Character, revision: int) -> bytes:
    """Return the stored value at a revision."""
    return _encode(msgspec.structs.replace(character, revision=revision))


def revision_of(value: bytes) -> int:
    """Return the revision of a stored value without decoding the rest."""
    return int(value[value.rindex(b":") + 1 : -1])


def section_of(code_point: int) -> int:
    """Return the number of the section that holds the code point."""
    return bisect.bisect_right(_FIRSTS, code_point) - 1


_encode = msgspec.json.Encoder().encode
_FIRSTS = [section.first for section in SECTIONS]
