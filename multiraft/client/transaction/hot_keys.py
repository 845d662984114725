"""Keys that transactions of this client have fought over lately: they are locked when first read.

Purpose
    Of many that read a key and then write it, all but one read in vain. Who has lost once locks the
    key in its next attempt; here that is remembered for those that come after, so that they queue
    up at once instead of losing first.
Invariants
    - Only keys that were written after they were read are remembered; one that was locked because
      of that, and then not written, is forgotten.
    - A key is forgotten when `remembered_s` have passed since it was last fought over, or locked
      and written; at most `MOST` are kept.
"""

MOST = 1_024


class HotKeys:
    """See the module."""

    __slots__ = ("_remembered_s", "_until")

    def __init__(self, remembered_s: float) -> None:
        self._remembered_s = remembered_s
        self._until: dict[bytes, float] = {}

    def remember(self, key: bytes, now: float) -> None:
        """A transaction has read and written the key, and had to run again, or to wait, for it."""
        self._until.pop(key, None)
        if len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        self._until[key] = now + self._remembered_s

    def forget(self, key: bytes) -> None:
        """A transaction has locked the key and not written it."""
        self._until.pop(key, None)

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
