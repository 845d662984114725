"""Values of workloads: whole numbers that no two calls write, as decimal text in the database."""

import itertools
from collections.abc import Iterator

from multiraft.client.batch import Answer

_PER_CLIENT = 1_000_000


def unique(number: int) -> Iterator[int]:
    """Return what client `number` writes, one value after another: nobody else writes these."""
    return itertools.count(number * _PER_CLIENT + 1)


def encode(value: int) -> bytes:
    """Return a number as the database holds it."""
    return b"%d" % value


def encode_expected(value: int | None) -> bytes | None:
    """Return what a condition asks for; None is an absent key."""
    return None if value is None else encode(value)


def decode(value: bytes | None) -> int | None:
    """Return the number that a key holds; None if it is absent."""
    return None if value is None else int(value)


def decode_counter(value: bytes | None) -> int:
    """Return what a counter stands at; one that is absent has not been counted on."""
    return 0 if value is None else int.from_bytes(value, "big", signed=True)


def held(answer: Answer) -> bytes | None:
    """Return what a read in a batch was answered."""
    assert answer is None or isinstance(answer, bytes), "a read gives bytes or None"
    return answer
