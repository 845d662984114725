"""Which ways between nodes are cut, and waiting until one is not.

Invariants
    - A way is open when everybody who cut it, or isolated one of its ends, has undone that.
"""

import asyncio
from collections import Counter

CLIENT = 0
"""The number of everybody who is no node."""


class Cuts:
    """See the module. Ends are nodes by their numbers, or CLIENT."""

    def __init__(self) -> None:
        self._cuts: Counter[tuple[int, int]] = Counter()
        self._isolated: Counter[int] = Counter()
        self._opened = asyncio.Event()

    def is_cut(self, source: int, target: int) -> bool:
        """Whether nothing gets from `source` to `target`."""
        return (
            self._cuts[source, target] > 0
            or self._isolated[source] > 0
            or self._isolated[target] > 0
        )

    async def until_open(self, source: int, target: int) -> None:
        """Return when the way is not cut, at once if it is not."""
        while self.is_cut(source, target):
            await self._opened.wait()

    def cut(self, source: int, target: int) -> None:
        """Cut one way."""
        self._cuts[source, target] += 1

    def heal(self, source: int, target: int) -> None:
        """Undo `cut`."""
        self._cuts[source, target] = max(0, self._cuts[source, target] - 1)
        self._tell()

    def isolate(self, number: int) -> None:
        """Cut all ways from and to a node."""
        self._isolated[number] += 1

    def rejoin(self, number: int) -> None:
        """Undo `isolate`."""
        self._isolated[number] = max(0, self._isolated[number] - 1)
        self._tell()

    def _tell(self) -> None:
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()
