"""Stand-ins for a cluster that break one promise each: what the checks of workloads must notice.

A lie is told about every `ONE_IN`th occasion on the users' own keys; the rest is right.
"""

from multiraft.ids import Timestamp
from multiraft.model import keys, requests
from multiraft.model.requests import Operation, Result
from multiraft.runtime import Clock
from tests.support.fake_cluster import FakeCluster, FakeRange

ONE_IN = 7


class Liar(FakeCluster):
    """Tells no lie yet."""

    def __init__(self, clock: Clock, *, splits: tuple[bytes, ...] = ()) -> None:
        self.occasions = 0
        self.lies = 0
        super().__init__(clock, splits=splits)

    def lies_now(self, key: bytes) -> bool:
        """Whether this occasion is one to lie at."""
        if not key.startswith(keys.PLAIN):
            return False
        self.occasions += 1
        lies = self.occasions % ONE_IN == 0
        self.lies += lies
        return lies


class StaleReads(Liar):
    """A get finds the version before the newest."""

    def _carry_out(self, found: FakeRange, operation: Operation, at: Timestamp) -> Result:
        if isinstance(operation, requests.Get) and self.lies_now(operation.key):
            before = self.versions.get(operation.key, [])[:-1]
            return requests.GetResult(before[-1][1] if before else None, at)
        return super()._carry_out(found, operation, at)


class LostWrites(Liar):
    """A write is acknowledged, and forgotten."""

    def _write(self, key: bytes, value: bytes | None, at: Timestamp) -> None:
        if not self.lies_now(key):
            super()._write(key, value, at)


class DoubleIncrements(Liar):
    """An increment is carried out twice."""

    def _increment(self, key: bytes, delta: int, at: Timestamp) -> Result:
        result = super()._increment(key, delta, at)
        if self.lies_now(key):
            super()._increment(key, delta, self.now())
        return result


class RepeatedIncrements(Liar):
    """An increment is carried out a second time, and answered with what came of that."""

    def _increment(self, key: bytes, delta: int, at: Timestamp) -> Result:
        if self.lies_now(key):
            super()._increment(key, delta, at)
        return super()._increment(key, delta, self.now())
