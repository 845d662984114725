"""An engine whose syncs the test holds back, fails, or loses with a crash."""

from collections.abc import Callable, Iterator

from multiraft.storage.engine import Batch

Done = Callable[[BaseException | None], None]
Write = tuple[bytes, bytes]


class ScriptedBatch:
    """Writes to the data family, in order."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    def put(self, key: bytes, value: bytes, family: str) -> None:
        assert family == ScriptedEngine.data
        self.writes.append((key, value))

    def delete(self, key: bytes, family: str) -> None:
        raise NotImplementedError

    def delete_range(self, start: bytes, end: bytes, family: str) -> None:
        raise NotImplementedError


class ScriptedEngine:
    """Syncs complete in the next loop iteration unless `stalled`; `crashed()` is what survives."""

    raft = "raft"
    data = "data"

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._written: dict[bytes, bytes] = {}
        self._durable: dict[bytes, bytes] = {}
        self._waiting: list[tuple[dict[bytes, bytes], Done]] = []
        self.stalled = False
        self.write_error: Exception | None = None
        self.sync_error: Exception | None = None
        self.syncs = 0

    def crashed(self) -> "ScriptedEngine":
        """Return the engine as it is opened again after power was lost."""
        survivor = ScriptedEngine(self._call_soon)
        survivor._written = dict(self._durable)
        survivor._durable = dict(self._durable)
        return survivor

    def recover(self) -> None:
        """End the stall: what waited becomes durable now."""
        self.stalled = False
        self._call_soon(self._complete)

    def new_batch(self) -> ScriptedBatch:
        return ScriptedBatch()

    def write(self, batch: Batch) -> None:
        if self.write_error is not None:
            raise self.write_error
        assert isinstance(batch, ScriptedBatch)
        for key, value in batch.writes:
            self._written[key] = value

    def sync(self, done: Done) -> None:
        self.syncs += 1
        self._waiting.append((dict(self._written), done))
        self._call_soon(self._complete)

    def _complete(self) -> None:
        while self._waiting and not self.stalled:
            durable, done = self._waiting.pop(0)
            if self.sync_error is None:
                self._durable = durable
            done(self.sync_error)

    def get(self, key: bytes, family: str) -> bytes | None:
        return self._written.get(key)

    def first(self, start: bytes, end: bytes, family: str) -> tuple[bytes, bytes] | None:
        return next(self.scan(start, end, family), None)

    def scan(
        self, start: bytes, end: bytes, family: str, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(key for key in self._written if start <= key < end)
        return iter([(key, self._written[key]) for key in keys])

    def view(self) -> "ScriptedEngine":
        raise NotImplementedError

    def free_bytes(self) -> int:
        return 1 << 40

    def close(self) -> None:
        """Nothing to release."""
