"""Parts of requests for tests of evaluation: keys by number, and an engine they are applied to."""

from multiraft.ids import RangeId, Timestamp
from multiraft.model import encoding
from multiraft.model.requests import BatchRequest, Operation, Put, Result
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.versions import VALUE
from multiraft.ranges.commands import writes
from multiraft.ranges.commands.writes import Evaluation, Replay
from multiraft.storage.memory import MemoryEngine

RESULT_BYTES_MAX = 1_000


def part(
    *operations: Operation, number: int = 1, attempt: int = 1, issued_at: int = 0
) -> BatchRequest:
    """Return a part that writes, whose ID is made of `number`."""
    return BatchRequest(
        RangeId(1),
        operations,
        id=number.to_bytes(16, "big"),
        attempt=attempt,
        issued_at=Timestamp(issued_at),
    )


def counter(number: int) -> bytes:
    """Return how a counter is stored."""
    return encoding.pack_counter(number)


class Table:
    """What one range holds; every part that is applied gets the next ten as its timestamp."""

    def __init__(self, **values: bytes) -> None:
        self.engine = MemoryEngine()
        self.reader = EngineReader(self.engine)
        self.now = 0
        for number, (key, value) in enumerate(values.items(), start=1_000):
            self.apply(part(Put(key.encode(), value), number=number))

    def evaluate(self, request: BatchRequest) -> Evaluation:
        """Evaluate a part at the next timestamp, and apply nothing."""
        return writes.evaluate(self.reader, request, Timestamp(self.now + 10), RESULT_BYTES_MAX)

    def apply(self, request: BatchRequest) -> Evaluation:
        """Evaluate a part and apply what it leads to."""
        evaluation = self.evaluate(request)
        self.now += 10
        effects = evaluation.write_set.effects()
        batch = self.engine.new_batch()
        for position in range(0, len(effects.puts), 2):
            key, value = effects.puts[position : position + 2]
            batch.put(key, value, self.engine.data)
        self.engine.write(batch)
        return evaluation

    def replay(self, request: BatchRequest) -> Replay | None:
        """Look for the trace of a part, as the leaseholder does before it evaluates it."""
        return writes.replay(self.reader, request, RESULT_BYTES_MAX)

    def send(self, request: BatchRequest) -> tuple[Result, ...]:
        """Do what a leaseholder does with an attempt: find the first outcome, or evaluate."""
        replay = self.replay(request)
        if replay is not None:
            return replay.results
        evaluation = self.apply(request)
        if evaluation.error is not None:
            raise evaluation.error
        return evaluation.results

    def get(self, key: bytes) -> bytes | None:
        """Return what a key holds now."""
        version = reads.newest(self.reader, key)
        return version.value if version is not None and version.kind == VALUE else None
