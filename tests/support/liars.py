"""Stand-ins for a cluster that break one promise each: what the checks of workloads must notice.

A lie is told at every `ONE_IN`th occasion on the users' own keys, after the first second in which
workloads set up; the rest is right.
"""

from multiraft.client.calls import wrote
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys, requests
from multiraft.model.requests import BatchRequest, Operation, Result
from multiraft.runtime import Clock
from tests.support.fake_cluster import FakeCluster, FakeRange

ONE_IN = 7
HONEST_S = 1.0

_WRITES = (requests.Put, requests.ConditionalPut, requests.Increment)


class Liar(FakeCluster):
    """Tells no lie yet."""

    def __init__(self, clock: Clock, *, splits: tuple[bytes, ...] = ()) -> None:
        self.occasions = 0
        self.lies = 0
        super().__init__(clock, splits=splits)

    def lies_now(self, key: bytes) -> bool:
        """Whether this occasion is one to lie at."""
        if not key.startswith(keys.PLAIN) or self._clock.monotonic() < HONEST_S:
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

    def write(self, key: bytes, value: bytes | None, at: Timestamp) -> None:
        if not self.lies_now(key):
            super().write(key, value, at)


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


class ForgottenDeletes(Liar):
    """A removal is acknowledged, and forgotten."""

    def write(self, key: bytes, value: bytes | None, at: Timestamp) -> None:
        if value is not None or not self.lies_now(key):
            super().write(key, value, at)


class TornBatches(Liar):
    """A batch is carried out but for its last write."""

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        results = super()._write_all(request)
        written = [o.key for o in request.operations if isinstance(o, _WRITES)]
        if len(written) > 1 and wrote(request.operations, results) and self.lies_now(written[-1]):
            self.versions[written[-1]].pop()
        return results


class RepeatedBatches(Liar):
    """A batch is carried out twice."""

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        results = super()._write_all(request)
        if self.lies_now(request.operations[0].key):  # type: ignore[union-attr]
            super()._write_all(request)
        return results


class LateWrites(Liar):
    """A conditional put whose condition failed is made when the condition holds (S7)."""

    def __init__(self, clock: Clock) -> None:
        self._late: list[requests.ConditionalPut] = []
        super().__init__(clock)

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        results = super()._write_all(request)
        for operation, result in zip(request.operations, results, strict=True):
            if isinstance(operation, requests.ConditionalPut) and self.lies_now(operation.key):
                assert isinstance(result, requests.ConditionalPutResult)
                if not result.succeeded:
                    self._late.append(operation)
        for late in list(self._late):
            if self.read(late.key, hlc.MAX) == late.expected:
                self._late.remove(late)
                self.write(late.key, late.value, self.now())
        return results


class LateDeletes(Liar):
    """A delete that was answered "it was not there" is made when the key is there again (S7)."""

    def __init__(self, clock: Clock) -> None:
        self._late: list[bytes] = []
        super().__init__(clock)

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        results = super()._write_all(request)
        for operation, result in zip(request.operations, results, strict=True):
            if isinstance(operation, requests.Delete) and result == requests.DeleteResult(False):
                self._late += [operation.key] * self.lies_now(operation.key)
        for key in list(self._late):
            if self.read(key, hlc.MAX) is not None:
                self._late.remove(key)
                self.write(key, None, self.now())
        return results


class FalseRefusals(Liar):
    """A condition is said to have failed on the very value that it asked for."""

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        first = request.operations[0]
        if isinstance(first, requests.ConditionalPut) and self.lies_now(first.key):
            return (requests.ConditionalPutResult(False, first.expected),)
        return super()._write_all(request)


class StaleScans(Liar):
    """A scan is of a moment that is long past."""

    BEHIND_MS = 500

    def scan(self, scan: requests.Scan, at: Timestamp) -> requests.ScanResult:
        if self.lies_now(scan.start):
            at = Timestamp(at - hlc.from_ms(self.BEHIND_MS))
        return super().scan(scan, at)


class MixedMoments(StaleScans):
    """The later half of a scan's rows is older than the rest."""

    def scan(self, scan: requests.Scan, at: Timestamp) -> requests.ScanResult:
        now = Liar.scan(self, scan, at)
        then = super().scan(scan, at)
        assert isinstance(now, requests.ScanResult)
        assert isinstance(then, requests.ScanResult)
        half = len(now.rows) // 4 * 2
        if not half:
            return now
        edge = now.rows[half]
        assert isinstance(edge, bytes)
        rows = list(now.rows[:half])
        for place in range(0, len(then.rows), 2):
            key = then.rows[place]
            if (key <= edge) if scan.reverse else (key >= edge):
                rows += then.rows[place : place + 2]
        return requests.ScanResult(tuple(rows), now.resume)


class MissedRows(Liar):
    """A scan leaves a row out."""

    def scan(self, scan: requests.Scan, at: Timestamp) -> requests.ScanResult:
        result = super().scan(scan, at)
        assert isinstance(result, requests.ScanResult)
        middle = len(result.rows) // 4 * 2
        if result.rows and self.lies_now(scan.start):
            rows = result.rows[:middle] + result.rows[middle + 2 :]
            return requests.ScanResult(rows, result.resume)
        return result


class DoubledRows(Liar):
    """A scan gives a row twice."""

    def scan(self, scan: requests.Scan, at: Timestamp) -> requests.ScanResult:
        result = super().scan(scan, at)
        assert isinstance(result, requests.ScanResult)
        middle = len(result.rows) // 4 * 2
        if result.rows and self.lies_now(scan.start):
            rows = result.rows[: middle + 2] + result.rows[middle:]
            return requests.ScanResult(rows, result.resume)
        return result


class StaleValues(Liar):
    """What a get finds, in a transaction too, is sometimes the version before the newest."""

    def read(self, key: bytes, at: Timestamp) -> bytes | None:
        """See FakeCluster."""
        versions: list[tuple[Timestamp, bytes | None]] = self.versions.get(key, [])
        before = versions[:-1]
        if before and self.lies_now(key):
            value: bytes | None = before[-1][1]
            return value
        return super().read(key, at)
