"""Interprets tests/scenarios/mvcc_*.txt.

    put KEY=VALUE... @TS ID         delete KEY... @TS ID          outcome KEY @TS ID
    newest KEY                      get KEY @TS                   find ID KEY above TS
    scan START END @TS [reverse] [keys=N] [bytes=N]               versions
    garbage TS [START END]          collect TS [N]                stats [START END]

Keys and values are written as in Python's bytes literals; `""` is the empty key. `put`, `delete`
and `outcome` print what is live afterwards only through `stats`, whose running sum is compared with
a recount each time.
"""

import shlex
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.mvcc import garbage, reads, statistics, versions
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.mvcc.writes import WriteSet
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine
from tests.support import scenarios

KIND = {VALUE: "value", TOMBSTONE: "tombstone", OUTCOME: "outcome"}


def parse(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def parse_at(text: str) -> Timestamp:
    return Timestamp(int(text.removeprefix("@")))


def show(data: bytes) -> str:
    return repr(data)[2:-1] or '""'


def show_version(key: bytes, version: Version | None) -> str:
    if version is None:
        return f"{show(key)}: nothing"
    text = f"{show(key)} @{version.timestamp} {version.id.rstrip(b'.').decode()} "
    return text + (show(version.value) if version.kind == VALUE else KIND[version.kind])


class Interpreter:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.reader = EngineReader(self.engine)
        self.stats = RangeStats()

    def __call__(self, line: str) -> Iterator[str]:
        name, *arguments = shlex.split(line.replace("\\", "\\\\"))
        command: Callable[..., Iterator[str]] = getattr(self, f"do_{name}")
        return command(*arguments)

    def do_put(self, *arguments: str) -> Iterator[str]:
        *pairs, at, write_id = arguments
        writes = self.write_set(at, write_id)
        for pair in pairs:
            key, _, value = pair.partition("=")
            writes.put(parse(key), parse(value))
        return self.apply(writes)

    def do_delete(self, *arguments: str) -> Iterator[str]:
        *names, at, write_id = arguments
        writes = self.write_set(at, write_id)
        for key in names:
            writes.delete(parse(key))
        return self.apply(writes)

    def do_outcome(self, key: str, at: str, write_id: str) -> Iterator[str]:
        writes = self.write_set(at, write_id)
        writes.outcome(parse(key))
        return self.apply(writes)

    def do_newest(self, key: str) -> Iterator[str]:
        yield show_version(parse(key), reads.newest(self.reader, parse(key)))

    def do_get(self, key: str, at: str) -> Iterator[str]:
        yield show_version(parse(key), reads.get(self.reader, parse(key), parse_at(at)))

    def do_find(self, write_id: str, key: str, _above: str, at: str) -> Iterator[str]:
        found = reads.find_write(self.reader, parse(key), padded(write_id), parse_at(at))
        yield show_version(parse(key), found)

    def do_scan(self, start: str, end: str, at: str, *options: str) -> Iterator[str]:
        limits = dict(option.split("=") for option in options if "=" in option)
        page = reads.scan(
            self.reader,
            parse(start),
            parse(end),
            parse_at(at),
            reverse="reverse" in options,
            limit_keys=int(limits.get("keys", 0)),
            limit_bytes=int(limits.get("bytes", 0)),
        )
        for key, value in zip(page.rows[::2], page.rows[1::2], strict=True):
            yield f"{show(key)} = {show(value)}"
        yield "end" if page.resume is None else f"resume {show(page.resume)}"

    def do_versions(self) -> Iterator[str]:
        for physical, stored in self.engine.scan(b"", b"\xff", self.engine.data):
            key, timestamp = layout.split_version_key(physical)
            yield show_version(key, versions.decode(timestamp, stored))

    def do_garbage(self, at: str, start: str = "", end: str = r"\xff") -> Iterator[str]:
        for physical, _ in self.removable(parse(start), parse(end), at):
            key, timestamp = layout.split_version_key(physical)
            yield f"{show(key)} @{timestamp}"

    def removable(self, start: bytes, end: bytes, at: str) -> list[garbage.Found]:
        scan = garbage.GarbageScan(self.reader, start, end, parse_at(at))
        assert scan.advance(1_000)
        return scan.take()

    def do_collect(self, at: str, count: str = "1000") -> Iterator[str]:
        found = self.removable(keys.MIN, keys.END, at)
        batch = self.engine.new_batch()
        for physical, size in islice(found, int(count)):
            batch.delete(physical, self.engine.data)
            self.stats = self.stats.minus(RangeStats(versions=1, version_bytes=size))
        self.engine.write(batch)
        return iter(())

    def do_stats(self, start: str = "", end: str = r"\xff") -> Iterator[str]:
        counted = statistics.count(self.reader, parse(start), parse(end))
        if (start, end) == ("", r"\xff"):
            assert counted == self.stats
        yield f"live {counted.live_keys} keys {counted.live_bytes} bytes"
        yield f"versions {counted.versions}, {counted.version_bytes} bytes"

    def write_set(self, at: str, write_id: str) -> WriteSet:
        return WriteSet(self.reader, parse_at(at), padded(write_id))

    def apply(self, writes: WriteSet) -> Iterator[str]:
        effects = writes.effects()
        batch = self.engine.new_batch()
        for physical, stored in zip(effects.puts[::2], effects.puts[1::2], strict=True):
            batch.put(physical, stored, self.engine.data)
        self.engine.write(batch)
        self.stats = self.stats.plus(effects.stats)
        return iter(())


def padded(write_id: str) -> bytes:
    return write_id.encode().ljust(versions.ID_BYTES, b".")


@pytest.mark.parametrize(
    "path", sorted(scenarios.SCENARIOS.glob("mvcc_*.txt")), ids=lambda p: p.stem
)
def test_scenario(path: Path) -> None:
    scenarios.check(path, Interpreter())
