"""Lists that only grow, each the value of one key: what the workloads of lists share.

A list is full at some length, since its value is written whole at every append; then clients turn
to the next one in its place.
"""

import itertools

from multiraft.testing.checkers.appends import READ
from multiraft.testing.workloads.workload import Workload

Elements = tuple[str, ...]

Part = tuple[str, str, object]
"""What is done, with which list, and the element or what was read."""


class KnownLists:
    """What one client knows of the lists: how many elements each has at the least."""

    def __init__(self, workload: Workload, places: int, elements_max: int) -> None:
        self._workload = workload
        self._elements_max = elements_max
        self._lengths = {self._key(place, 0): 0 for place in range(places)}

    def _key(self, place: int, generation: int) -> str:
        return self._workload.key(place, f"{generation:04}")

    def keys(self) -> list[str]:
        """Return the lists that it has heard of, the first one of each place included."""
        return list(self._lengths)

    def open_list(self, place: int) -> str:
        """Return the first list in a place that is not known to be full."""
        for generation in itertools.count():
            key = self._key(place, generation)
            if self._lengths.get(key, 0) < self._elements_max:
                return key
        raise AssertionError("counting has no end")

    def note(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """Take in what a transaction has read; return the same."""
        for function, key, found in parts:
            if function == READ and isinstance(found, tuple):
                self._lengths[key] = max(self._lengths.get(key, 0), len(found))
        return parts


def decode(value: bytes | None) -> Elements:
    """Return the elements of a list; one that is not there is empty."""
    return () if value is None else tuple(value.decode().split(" "))


def appended(value: bytes | None, element: str) -> bytes:
    """Return a list as the database holds it with one element more."""
    return element.encode() if value is None else value + b" " + element.encode()
