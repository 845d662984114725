"""A bound on what many hold together, of which each may have a share.

Purpose
    Alone, somebody may hold a lot; the more all hold, the less each may, down to a little that is
    always allowed. So those that take turns are not held up by those that only pile up.
Source
    Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998:
    a queue may be as long as a constant times the room that is free.
"""


class SharedLimit:
    """`each_min` for everybody besides, at most `all_max` are held, and `each_max` by one."""

    __slots__ = ("_all_max", "_each_max", "_each_min", "_share", "held")

    def __init__(self, all_max: int, each_max: int, each_min: int) -> None:
        assert 0 < each_min <= each_max < all_max, "each may have a share of what all may"
        self._all_max = all_max
        self._each_max = each_max
        self._each_min = each_min
        self._share = max(1, (all_max - each_max) // each_max)
        self.held = 0
        """By all. Whoever holds some adds it, and takes it off again."""

    @property
    def each_now(self) -> int:
        """How much one may hold as long as all hold what they do."""
        free = self._all_max - self.held
        return max(self._each_min, min(self._each_max, free // self._share))
