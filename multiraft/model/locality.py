"""Where a node is, as its operator tells it: what may fail together.

Purpose
    Tiers from the largest to the smallest, such as `zone=b,host=alpha`. Nodes share a tier when
    they agree in it and in all that precede it, so a host of one zone is no host of another.
Invariants
    - `host` is the last tier, if there is one: a node is on one machine, and nothing is smaller.
    - Nodes are on one host only if all tiers agree and the last is `host`. Without that tier every
      node counts as a host of its own.
Source
    CockroachDB's `--locality`, with one word of its own: `host`.
"""

import re

import msgspec

from multiraft import errors

HOST = "host"
TIERS_MAX = 8
WORD_LENGTH_MAX = 64
"""Of a key or a value: labels travel in the first frame of a connection, which is small."""

_KEY = re.compile(r"[a-z][a-z0-9_-]*")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_EXAMPLE = "write tiers such as zone=b,host=alpha, the largest first"


class Tier(msgspec.Struct, frozen=True, array_like=True):
    """One of the things that a node is in."""

    key: str
    value: str


Locality = tuple[Tier, ...]
"""Tiers, the largest first. Empty: the operator has told nothing."""


def parse(text: str) -> Locality:
    """Return the tiers of a text such as `zone=b,host=alpha`; an empty text has none.

    Raises ConfigError, also for what `check` refuses.
    """
    locality = tuple(map(_tier, text.split(","))) if text else ()
    check(locality)
    return locality


def _tier(text: str) -> Tier:
    key, equals, value = text.partition("=")
    if not equals:
        raise errors.ConfigError(f"{text!r} in a locality is not KEY=VALUE: {_EXAMPLE}")
    return Tier(key, value)


def check(locality: Locality) -> None:
    """Raise ConfigError if a node must not be labelled so."""
    if len(locality) > TIERS_MAX:
        raise errors.ConfigError(
            f"a locality has at most {TIERS_MAX} tiers, but {show(locality)} has {len(locality)}"
        )
    for tier in locality:
        _check_word(tier, "key", tier.key, _KEY)
        _check_word(tier, "value", tier.value, _VALUE)
    found = [tier.key for tier in locality]
    twice = sorted({key for key in found if found.count(key) > 1})
    if twice:
        raise errors.ConfigError(f"{show(locality)} names {twice[0]!r} twice: a node is in one")
    if HOST in found[:-1]:
        raise errors.ConfigError(
            f"{show(locality)} goes on after {HOST!r}, the smallest tier there is: {_EXAMPLE}"
        )


def _check_word(tier: Tier, what: str, word: str, allowed: re.Pattern[str]) -> None:
    if not allowed.fullmatch(word) or len(word) > WORD_LENGTH_MAX:
        raise errors.ConfigError(
            f"{show((tier,))!r} has a {what} that a locality cannot have: {_EXAMPLE}; keys are "
            "lower-case letters, digits, '_' and '-', values letters, digits and '._:-', "
            f"{WORD_LENGTH_MAX} at most"
        )


def show(locality: Locality) -> str:
    """Return the text that `parse` reads."""
    return ",".join(f"{tier.key}={tier.value}" for tier in locality)


def tiers_shared(one: Locality, other: Locality) -> int:
    """Return in how many of their largest tiers two nodes agree."""
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        shared += 1
    return shared


def names_host(locality: Locality) -> bool:
    """Return whether it is said which machine a node is on."""
    return bool(locality) and locality[-1].key == HOST


def is_same_host(one: Locality, other: Locality) -> bool:
    """Return whether two nodes are said to be on one machine."""
    return names_host(one) and one == other
