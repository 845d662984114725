import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from multiraft import errors
from multiraft.cli import workload
from multiraft.cli.workload import Mix, MixError, Workload, parse_mix, slots_of
from multiraft.sim import loop as virtual_loop

R = TypeVar("R")


class Transaction:
    """Notes the keys that it reads and writes."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, bytes]] = []

    async def get(self, key: bytes) -> bytes | None:
        self.steps.append(("get", key))
        return None

    async def put(self, key: bytes, value: bytes) -> None:
        assert len(value) == 5
        self.steps.append(("put", key))


class Target:
    """Counts operations; every tenth put fails."""

    def __init__(self) -> None:
        self.puts: list[bytes] = []
        self.gets: list[bytes] = []
        self.scans: list[bytes] = []
        self.transactions: list[list[tuple[str, bytes]]] = []

    async def run(self, function: Callable[[Any], Awaitable[R]]) -> R:
        await asyncio.sleep(0.001)
        transaction = Transaction()
        result = await function(transaction)
        self.transactions.append(transaction.steps)
        return result

    async def get(self, key: bytes) -> bytes | None:
        await asyncio.sleep(0.001)
        self.gets.append(key)
        return None

    async def put(self, key: bytes, value: bytes) -> None:
        await asyncio.sleep(0.001)
        assert len(value) == 5
        self.puts.append(key)
        if len(self.puts) % 10 == 0:
            raise errors.DeadlineExceededError(deadline_s=1, last_error="x")

    async def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        await asyncio.sleep(0.001)
        self.scans.append(start)
        for _ in range(limit or 0):
            yield start, b""


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("put=100", Mix(100, 0, 0)),
        ("get=1", Mix(0, 1, 0)),
        ("put=50, get=40,scan=10", Mix(50, 40, 10)),
        ("update=2,transfer=1,hot=1", Mix(0, update=2, transfer=1, hot=1)),
    ],
)
def test_a_mix_is_read(text: str, mix: Mix) -> None:
    assert parse_mix(text) == mix


@pytest.mark.parametrize("text", ["", "put", "put=x", "put=-1", "drop=1", "put=0", "put=1;get=1"])
def test_what_is_no_mix_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(MixError, match=repr(text)):
        parse_mix(text)


def test_a_mix_is_cycled_with_its_shares() -> None:
    operations = Mix(50, 40, 10).cycle(seed=1)
    assert 400 < operations.count("put") < 600
    assert operations == Mix(50, 40, 10).cycle(seed=1)
    assert set(Mix(0, 1, 0).cycle(seed=1)) == {"get"}


@pytest.mark.parametrize(("callers", "slots"), [(1, 1), (1, 5), (3, 5), (5, 5), (12, 5)])
def test_callers_cover_every_slot_and_stay_in_their_own(callers: int, slots: int) -> None:
    own = [list(slots_of(number, callers, slots)) for number in range(callers)]
    assert {slot for each in own for slot in each} == set(range(slots))
    if callers >= slots:
        assert all(len(each) == 1 for each in own)
    else:
        assert sum(len(each) for each in own) == slots


def test_a_run_records_successes_and_failures_and_ends() -> None:
    async def main(loop: virtual_loop.VirtualLoop) -> None:
        target = Target()
        work = Workload(
            target,
            [[b"a"], [b"b", b"c"]],
            mix=Mix(60, 30, 10),
            value_bytes=5,
            now=loop.time,
        )
        await work.run(callers=4, seconds=0.5)
        recorder = work.recorder
        succeeded = sum(len(each.ends) for each in recorder.writes)
        assert succeeded + len(recorder.failed) == len(target.puts)
        assert {each.code for each in recorder.failed} == {"deadline_exceeded"}
        reads = sum(len(each.ends) for each in recorder.reads)
        assert reads == len(target.gets) + len(target.scans)
        assert recorder.rows_read == workload.SCAN_ROWS * len(target.scans)
        assert set(target.puts) == {b"a", b"b", b"c"}

    virtual_loop.run(main)


@pytest.mark.parametrize(
    ("mix", "keys_of_each"),
    [
        (Mix(0, update=1), {("b",), ("c",), ("a",)}),
        (Mix(0, transfer=1), {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}),
        (Mix(0, hot=1), {("a",)}),
    ],
)
def test_transactions_read_their_keys_and_write_them(
    mix: Mix, keys_of_each: set[tuple[str, ...]]
) -> None:
    async def main(loop: virtual_loop.VirtualLoop) -> None:
        target = Target()
        slots = [[b"a"], [b"b", b"c"]]
        work = Workload(target, slots, mix=mix, value_bytes=5, now=loop.time)
        await work.run(callers=3, seconds=0.5)
        seen = set()
        for steps in target.transactions:
            half = len(steps) // 2
            keys = tuple(key.decode() for _, key in steps[:half])
            assert steps == [(op, k.encode()) for op in ("get", "put") for k in keys]
            seen.add(keys)
        assert seen == keys_of_each
        assert sum(work.recorder.ended_by_caller.values()) == len(target.transactions)

    virtual_loop.run(main)


def test_a_mix_tells_its_shares() -> None:
    assert str(Mix(1, scan=2, hot=3)) == "put=1 scan=2 hot=3"
