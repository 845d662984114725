"""Parts of requests for tests of evaluation: keys by number, and an engine they are applied to."""

from multiraft import errors
from multiraft.errors import ErrorDetail
from multiraft.ids import RangeId, Timestamp
from multiraft.model import encoding
from multiraft.model.requests import BatchRequest, Operation, Put, Result
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.versions import VALUE
from multiraft.ranges.commands import validation, writes
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
        self._left_at: dict[tuple[bytes, bytes], Timestamp] = {}
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
        for operation in validation.points(request):
            if evaluation.write_set.writes(operation.key):
                self._left_at[request.id, operation.key] = Timestamp(self.now)
        return evaluation

    def replay(self, request: BatchRequest) -> Replay | None:
        """Look for the trace of a part, as the leaseholder does before it evaluates it.

        Where the time of the trace is remembered, the same is found without a search.
        """
        left_at = [
            at
            for key in dict.fromkeys(operation.key for operation in validation.points(request))
            if (at := self._left_at.get((request.id, key), Timestamp(0))) > request.issued_at
        ]
        if left_at:
            assert self._outcome(request, max(left_at)) == self._outcome(request, None)
        return writes.replay(self.reader, request, RESULT_BYTES_MAX)

    def _outcome(
        self, request: BatchRequest, applied_at: Timestamp | None
    ) -> Replay | ErrorDetail | None:
        try:
            return writes.replay(self.reader, request, RESULT_BYTES_MAX, applied_at)
        except errors.RequestError as error:
            return errors.to_wire(error)

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
