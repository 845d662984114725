"""What is run, and what a database must offer to take part.

Words
    A *peer* is a database with one way of using it; this product is one of them. A *caller* has one
    request in flight and makes the next when it is answered. What a peer measured in one go is a
    `Load`.
Invariants
    - Everything a peer starts ends with its context, however that ends.
    - A request that fails fails the load: nothing goes wrong here that a client should survive.
"""

import enum
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from multiraft.cli.measure import Latency


class Operation(enum.StrEnum):
    """What the callers do; the values are names on the command line and in the records."""

    PUT = "put"
    GET = "get"
    SCAN_100 = "scan100"
    SCAN_1000 = "scan1000"
    TXN = "txn4"
    BATCH = "batch100"
    LOAD = "load"
    IDLE = "idle"
    FAILOVER = "failover"


class Form(msgspec.Struct, frozen=True):
    """How an operation is told."""

    title: str
    unit: str
    rows: int = 1
    """Keys that one request touches."""
    units: int = 1
    """How many of what is counted per second one request makes."""


FORMS = {
    Operation.PUT: Form("puts", "puts/s"),
    Operation.GET: Form("linearizable gets", "gets/s"),
    Operation.SCAN_100: Form("scans of 100 rows", "keys/s", rows=100, units=100),
    Operation.SCAN_1000: Form("scans of 1,000 rows", "keys/s", rows=1_000, units=1_000),
    Operation.TXN: Form("transactions of four puts", "txns/s", rows=4),
    Operation.BATCH: Form("batches of 100 puts", "keys/s", rows=100, units=100),
    Operation.LOAD: Form("bulk load of a file", "rows/s"),
    Operation.IDLE: Form("an idle cluster", "cores"),
    Operation.FAILOVER: Form("longest wait of a writer whose leader is killed", "ms"),
}

SCANS = frozenset({Operation.SCAN_100, Operation.SCAN_1000})

WRITES_AND_READS = SCANS | frozenset(
    {
        Operation.PUT,
        Operation.GET,
        Operation.TXN,
        Operation.BATCH,
    }
)
"""The operations that any number of callers repeat, for as long as they are told to."""


class Data(msgspec.Struct, frozen=True):
    """The rows that every peer holds when a load begins, and that its callers use."""

    keys: int = 10_000
    value_bytes: int = 256

    def key(self, number: int) -> bytes:
        """Return a key; they sort by their numbers."""
        return b"compare/%08d" % number

    @property
    def end(self) -> bytes:
        """The key behind the last one."""
        return self.key(self.keys)

    @property
    def value(self) -> bytes:
        """The value of every row: random, so that no engine can compress it."""
        return random.Random(self.value_bytes).randbytes(self.value_bytes)

    def _order(self, operation: Operation) -> list[int]:
        """Return the numbers of keys as they are used; from each a scan finds all its rows."""
        last_start = self.keys - (FORMS[operation].rows if operation in SCANS else 1)
        numbers = list(range(last_start + 1))
        random.Random(0).shuffle(numbers)
        return numbers

    def groups(self, operation: Operation) -> list[list[int]]:
        """Return the numbers of the keys of one request after the other; of a scan, its start."""
        size = 1 if operation in SCANS else FORMS[operation].rows
        order = self._order(operation)
        return [order[first : first + size] for first in range(0, len(order) - size + 1, size)]


class Load(msgspec.Struct, frozen=True):
    """What the callers saw. Idling makes no request; a fail-over is one that took that long."""

    requests: int
    seconds: float
    latency_ms: Latency
    client_cpu_s: float | None
    """None where the callers run inside a server."""


class PeerFailedError(Exception):
    """The peer does not start, or does not do as asked."""


class Running(Protocol):
    """A peer that has been started and holds the data."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes of its servers."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What a reader must know to repeat or to doubt the figures: versions, flags, syncs."""

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""


class Peer(Protocol):
    """A database and a way of using it."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in the tables."""

    @property
    def operations(self) -> frozenset[Operation]:
        """What it can do."""

    @property
    def callers_max(self) -> int | None:
        """More callers than this make no sense; None if any number does."""

    @property
    def is_durable(self) -> bool:
        """Whether what it acknowledges is on disk, of a majority if there are replicas."""

    @property
    def remark(self) -> str:
        """What is not comparable about it, in words; may be empty."""

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""

    def start(self, directory: Path, data: Data) -> AbstractAsyncContextManager[Running]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
