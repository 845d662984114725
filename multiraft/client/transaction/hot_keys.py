"""Keys that transactions of this client have fought over lately: they are locked when first read.

Purpose
    Of many that read a key and then write it, all but one read in vain. Who has lost once locks the
    key in its next attempt; here that is remembered for those that come after, so that they queue
    up at once instead of losing first.
Invariants
    - Only keys that were written after they were read are remembered: reading alone never locks.
    - A key is forgotten `REMEMBERED_S` after the last fight; nothing is kept of more than `MOST`.
"""

REMEMBERED_S = 1.0
MOST = 1_024


class HotKeys:
    """See the module."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def remember(self, key: bytes, now: float) -> None:
        """A transaction that has read and written the key must run again because of it."""
        self._until.pop(key, None)
        if len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        self._until[key] = now + REMEMBERED_S

    def __bool__(self) -> bool:
        return bool(self._until)

    def holds(self, key: bytes, now: float) -> bool:
        """Return whether to lock the key when it is read."""
        until = self._until.get(key)
        if until is None:
            return False
        if until > now:
            return True
        del self._until[key]
        return False
