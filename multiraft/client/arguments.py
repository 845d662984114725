"""What applications pass beside keys and values, checked before anything is sent.

Purpose
    All calls of a client to one node share a connection, and a node closes one that brings a
    request which it cannot read. So what would not fit the wire is refused here: otherwise one
    caller's mistake would break off the calls of all others, again and again until its deadline.
"""

import math

from multiraft import errors
from multiraft.model import encoding, hlc


def check_int(what: str, given: object) -> int:
    """Return `given`. Raises RequestError for anything but an int, True and False included."""
    if type(given) is not int:
        raise errors.RequestError(f"{what} must be an int, not {type(given).__name__}")
    return given


def check_int64(what: str, given: int) -> None:
    """Raise RequestError for what no request can carry as a number."""
    if not encoding.COUNTER_MIN <= check_int(what, given) <= encoding.COUNTER_MAX:
        raise errors.RequestError(f"{what} {given} does not fit in 64 signed bits")


def check_id(what: str, given: int) -> None:
    """Raise RequestError for what is not the ID of a node or range."""
    check_int64(what, given)
    if given < 1:
        raise errors.RequestError(f"{what} is {given}, but must be 1 or more")


def check_timestamp(what: str, given: int) -> None:
    """Raise RequestError for what is no time of a cluster."""
    if not 0 <= check_int(what, given) <= hlc.MAX:
        raise errors.RequestError(f"{what} {given} does not fit in 64 bits")


def check_text(what: str, given: str) -> None:
    """Raise RequestError unless `given` is text that can be sent, and shown in one line."""
    if not isinstance(given, str):
        raise errors.RequestError(f"{what} must be a str, not {type(given).__name__}")
    if not given.isprintable():  # Nor are lone surrogates, which cannot be encoded.
        raise errors.RequestError(f"{what} must be printable, unlike {given!r}")


def check_limit(limit: int | None) -> None:
    """Raise RequestError if a scan cannot have this limit. Any number of rows may be asked for."""
    if limit is not None and check_int("limit", limit) < 0:
        raise errors.RequestError(f"limit is {limit}, but must be 0 or more")


def check_deadline(deadline_s: float) -> None:
    """Raise DeadlineExceededError if it has passed already, RequestError if it never would."""
    if math.isnan(deadline_s):
        raise errors.RequestError("deadline_s is nan, but must be a number of seconds")
    if deadline_s <= 0:
        raise errors.DeadlineExceededError(
            deadline_s=deadline_s, last_error="it had passed when this was asked for"
        )
