"""What a test passes to its cluster, checked before anything is done to it.

A delay of minus one second, or a partition of a client that does not exist, would not fail where it
is asked for: the test would go on, and show nothing.
"""

import math
from collections.abc import Iterable

from multiraft.testing.cluster_status import MisuseError


def check_int(what: str, given: object, *, least: int | None = None) -> None:
    """Raise MisuseError for anything but an int of at least `least`; True and False are none."""
    if type(given) is not int:
        raise MisuseError(f"{what} must be an int, not {given!r}")
    if least is not None and given < least:
        raise MisuseError(f"{what} is {given}, but must be {least} or more")


def check_seconds(what: str, given: float, *, least: float, most: float = math.inf) -> None:
    """Raise MisuseError for anything but a finite number of seconds from `least` to `most`."""
    if type(given) not in (int, float) or not math.isfinite(given):
        raise MisuseError(f"{what} must be a finite number of seconds, not {given!r}")
    if not least <= given <= most:
        up_to = "or more" if most == math.inf else f"to {most:g}"
        raise MisuseError(f"{what} is {given:g}, but must be {least:g} {up_to} (seconds)")


def check_key(given: object) -> None:
    """Raise MisuseError for anything but bytes."""
    if type(given) is not bytes:
        raise MisuseError(f"key must be bytes, not {given!r}")


def check_name(given: object) -> None:
    """Raise MisuseError for what no client can be called."""
    if not isinstance(given, str) or not given:
        raise MisuseError(f"name must be text that is not empty, not {given!r}")


def check_group(given: object) -> None:
    """Raise MisuseError for what is no group of a partition."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise MisuseError(f"a group is a list of nodes and clients, such as [{given!r}]")
