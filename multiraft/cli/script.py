r"""The lines that `multiraft txn` carries out: one operation each, in words as in a shell.

Format
    A line is one of `USAGES`. Words are separated by spaces; 'quotes' or "quotes" keep spaces in
    one, and `#` begins a remark. Keys are text with `\xNN` for a byte; in quotes or without, the
    backslash is left to that.
"""

import shlex
from collections.abc import Callable

import msgspec

from multiraft.cli import keytext
from multiraft.model import encoding

USAGES = {
    "get": "get KEY [--for-update] [--counter]",
    "put": "put KEY VALUE [--if-absent | --expect VALUE]",
    "delete": "delete KEY",
    "increment": "increment KEY [N]",
    "scan": "scan [START [END]] [--prefix P] [--limit N] [--reverse] [--for-update]",
    "delete-range": "delete-range START END",
    "commit": "commit",
    "rollback": "rollback",
}
"""How the line of each verb is written."""


class ScriptError(keytext.KeyTextError):
    """A line cannot be carried out as it is. The message names the line, and says what would do."""


class Step(msgspec.Struct, frozen=True):
    """One line, as it is to be carried out."""

    line: int
    verb: str
    key: bytes = b""
    value: bytes = b""
    end: bytes | None = None
    prefix: bytes = b""
    delta: int = 1
    limit: int | None = None
    is_conditional: bool = False
    expected: bytes | None = None
    reverse: bool = False
    for_update: bool = False
    counter: bool = False


class _Words:
    """The words of one line after its verb."""

    def __init__(self, line: int, verb: str, words: list[str], *, as_hex: bool) -> None:
        self.line = line
        self.verb = verb
        self.as_hex = as_hex
        self._words = words

    def flag(self, name: str) -> bool:
        """Take `name` if it is there."""
        if name not in self._words:
            return False
        self._words.remove(name)
        return True

    def option(self, name: str) -> str | None:
        """Take `name` and the word after it, if they are there."""
        if name not in self._words:
            return None
        place = self._words.index(name)
        if place + 1 == len(self._words):
            raise self.wrong(f"{name} needs a word after it")
        _, given = self._words[place : place + 2]
        del self._words[place : place + 2]
        return given

    def number(self, text: str, what: str) -> int:
        """Return the number that `text` is."""
        try:
            return int(text)
        except ValueError:
            raise self.wrong(f"{what} must be a whole number, not '{text}'") from None

    def rest(self, *, at_least: int, at_most: int) -> list[str]:
        """Take all words that are left; there are as many as there should be."""
        usage = USAGES[self.verb]
        unknown = [word for word in self._words if word.startswith("--")]
        if unknown:
            raise self.wrong(f"it has no {unknown[0]}; write: {usage}")
        if not at_least <= len(self._words) <= at_most:
            raise self.wrong(f"write: {usage}")
        return self._words

    def key(self, text: str) -> bytes:
        """Return the key that a word stands for."""
        try:
            return keytext.parse(text, as_hex=self.as_hex)
        except keytext.KeyTextError as error:
            raise self.wrong(str(error)) from None

    def value(self, text: str) -> bytes:
        """Return the value that a word stands for."""
        try:
            return keytext.literal(text, as_hex=self.as_hex)
        except keytext.KeyTextError as error:
            raise self.wrong(str(error)) from None

    def wrong(self, problem: str) -> ScriptError:
        """Return the error for this line."""
        return ScriptError(f"line {self.line}: {self.verb}: {problem}")


def parse(text: str, line: int, *, as_hex: bool = False) -> Step | None:
    """Return what a line says; None if it says nothing. Raises ScriptError."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ScriptError(f"line {line}: {str(error).lower()}: close the quotes") from None
    if not words:
        return None
    verb, *others = words
    reader = VERBS.get(verb)
    if reader is None:
        known = ", ".join(VERBS)
        raise ScriptError(f"line {line}: '{verb}' is not known; there are {known}")
    return reader(_Words(line, verb, others, as_hex=as_hex))


def _get(words: _Words) -> Step:
    for_update, counter = words.flag("--for-update"), words.flag("--counter")
    (key,) = words.rest(at_least=1, at_most=1)
    return Step(words.line, "get", words.key(key), for_update=for_update, counter=counter)


def _put(words: _Words) -> Step:
    if_absent, expect = words.flag("--if-absent"), words.option("--expect")
    if if_absent and expect is not None:
        raise words.wrong("--if-absent and --expect exclude each other: use one of them")
    key, value = words.rest(at_least=2, at_most=2)
    return Step(
        words.line,
        "put",
        words.key(key),
        words.value(value),
        is_conditional=if_absent or expect is not None,
        expected=None if expect is None else words.value(expect),
    )


def _delete(words: _Words) -> Step:
    (key,) = words.rest(at_least=1, at_most=1)
    return Step(words.line, "delete", words.key(key))


def _increment(words: _Words) -> Step:
    key, *delta = words.rest(at_least=1, at_most=2)
    by = words.number(delta[0], "N") if delta else 1
    if not encoding.COUNTER_MIN <= by <= encoding.COUNTER_MAX:
        raise words.wrong(f"{by} does not fit into 64 signed bits")
    return Step(words.line, "increment", words.key(key), delta=by)


def _scan(words: _Words) -> Step:
    for_update = words.flag("--for-update")
    reverse, prefix, limit = (
        words.flag("--reverse"),
        words.option("--prefix"),
        words.option("--limit"),
    )
    span = words.rest(at_least=0, at_most=2)
    most = None if limit is None else words.number(limit, "--limit")
    if most is not None and most < 0:
        raise words.wrong("--limit must be 0 or more")
    return Step(
        words.line,
        "scan",
        words.key(span[0]) if span else b"",
        end=words.key(span[1]) if len(span) > 1 else None,
        prefix=b"" if prefix is None else words.key(prefix),
        limit=most,
        reverse=reverse,
        for_update=for_update,
    )


def _delete_range(words: _Words) -> Step:
    start, end = words.rest(at_least=2, at_most=2)
    return Step(words.line, "delete-range", words.key(start), end=words.key(end))


def _end(words: _Words) -> Step:
    words.rest(at_least=0, at_most=0)
    return Step(words.line, words.verb)


VERBS: dict[str, Callable[[_Words], Step]] = {
    "get": _get,
    "put": _put,
    "delete": _delete,
    "increment": _increment,
    "scan": _scan,
    "delete-range": _delete_range,
    "commit": _end,
    "rollback": _end,
}
