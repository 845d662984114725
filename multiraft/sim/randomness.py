"""Random numbers that repeat: all of a run come from its seed."""

import random


class SeededRng:
    """A `runtime.Rng` that gives the same numbers in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return self._random.randrange(limit)

    def unique_id(self) -> bytes:
        """Return 16 bytes."""
        return self._random.randbytes(16)
