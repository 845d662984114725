"""One node of a PySyncObj cluster, as a process: `python pysyncobj_node.py SELF OTHER OTHER FILE`.

PySyncObj is a library: callers live in a node's process, and call the replicated object there. So
the node itself runs loads, when it is told to on standard input, and answers on standard output:

    leader                               the address of the leader, "" while there is none
    fill KEYS VALUE_BYTES                "filled" when every row is put
    put CALLERS SECONDS                  a Load
"""

import itertools
import math
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pysyncobj

from bench.compare.peer import Data, Load, Operation
from multiraft.cli.measure import Recorder, Window

_TIMEOUT_S = 60.0
_FILLED_AT_ONCE = 64


class Rows(pysyncobj.SyncObj):  # type: ignore[misc]
    """The replicated object: a dictionary."""

    def __init__(self, own: str, others: list[str], journal: str) -> None:
        # Without batches a command is sent when it is made, not at the next of 20 ticks a second.
        settings = pysyncobj.SyncObjConf(
            journalFile=journal, appendEntriesUseBatch=False, logCompactionMinEntries=1 << 30
        )
        super().__init__(own, others, settings)
        self._rows: dict[bytes, bytes] = {}

    @pysyncobj.replicated  # type: ignore[untyped-decorator]
    def put(self, key: bytes, value: bytes) -> None:
        """Set a row."""
        self._rows[key] = value


class Loop:
    """Callers that put, each the next row when its last one is applied."""

    def __init__(self, rows: Rows, data: Data, numbers: Iterator[int], stop_at: float) -> None:
        self._rows = rows
        self._data = data
        self._value = data.value
        self._numbers = numbers
        self._stop_at = stop_at
        self._running = 0
        self._problem = ""
        self._has_ended = threading.Event()
        self.recorder = Recorder(1)

    def run(self, callers: int) -> None:
        """Have so many callers work, and return when all have ended."""
        self._running = callers
        for _ in range(callers):
            self._next()
        assert self._has_ended.wait(_TIMEOUT_S), "rows are not applied"
        assert not self._problem, self._problem

    def _next(self) -> None:
        began = time.perf_counter()
        number = next(self._numbers, None)
        if began >= self._stop_at or number is None or self._problem:
            self._running -= 1
            if self._running == 0:
                self._has_ended.set()
            return

        def applied(_result: object, reason: int) -> None:
            if reason != pysyncobj.FAIL_REASON.SUCCESS:
                self._problem = f"a put failed: reason {reason}"
            self.recorder.writes[0].add(began, time.perf_counter())
            self._next()

        self._rows.put(self._data.key(number), self._value, callback=applied)


def main() -> None:
    """Do as told until the input ends."""
    own, *others, journal = sys.argv[1:]
    rows = Rows(own, others, journal)
    data = Data()
    for line in sys.stdin:
        command, *arguments = line.split()
        answer: Any
        if command == "leader":
            leader = rows._getLeader()
            answer = leader.id if rows.isReady() and leader is not None else ""
        elif command == "fill":
            data = Data(*map(int, arguments))
            Loop(rows, data, iter(range(data.keys)), float("inf")).run(_FILLED_AT_ONCE)
            answer = "filled"
        else:
            answer = put(rows, data, int(arguments[0]), float(arguments[1]))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def put(rows: Rows, data: Data, callers: int, seconds: float) -> Load:
    """Run one load."""
    numbers = itertools.cycle([number for (number,) in data.groups(Operation.PUT)])
    began = time.perf_counter()
    loop = Loop(rows, data, numbers, began + seconds)
    loop.run(callers)
    seconds_taken = time.perf_counter() - began
    found = loop.recorder.summary(Window(began, math.inf))
    return Load(found.requests, seconds_taken, found.latency_ms, None)


if __name__ == "__main__":
    main()
