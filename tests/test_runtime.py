import asyncio
import gc
import subprocess
import sys
import time
import weakref

import pytest
import uvloop

from multiraft import runtime
from multiraft.runtime import UNIQUE_ID_BYTES, SystemClock, SystemRng

FORK = """
import os, sys
from multiraft.runtime import SystemRng

rng = SystemRng()
rng.unique_id()  # The parent's block of randomness is drawn.
read, write = os.pipe()
child = os.fork()
ids = [rng.unique_id() for _ in range(10)]
if not child:
    os.write(write, b"".join(ids))
    os._exit(0)
os.waitpid(child, 0)
theirs = os.read(read, 1000)
theirs = {theirs[at : at + 16] for at in range(0, len(theirs), 16)}
assert len(theirs) == 10, theirs
print(len(theirs & set(ids)))
"""


def test_ids_are_never_given_twice() -> None:
    rng, other = SystemRng(), SystemRng()
    blocks = 3 * SystemRng._BLOCK_BYTES // UNIQUE_ID_BYTES
    ids = [each.unique_id() for _ in range(blocks) for each in (rng, other)]
    assert {len(each) for each in ids} == {UNIQUE_ID_BYTES}
    assert len(set(ids)) == len(ids)


def test_a_fork_gives_other_ids_than_its_parent() -> None:
    """Rule A10: the block of randomness that both have is used by one of them."""
    forked = subprocess.run(
        [sys.executable, "-c", FORK], check=False, capture_output=True, text=True, timeout=60
    )
    assert (forked.stdout, forked.stderr) == ("0\n", "")


def test_a_source_of_ids_is_freed_when_nobody_has_it() -> None:
    rng = SystemRng()
    freed = weakref.ref(rng)
    del rng
    gc.collect()
    assert freed() is None


def test_numbers_are_below_the_limit() -> None:
    rng = SystemRng()
    assert {rng.below(3) for _ in range(200)} == {0, 1, 2}


def test_clocks_are_the_machines_own() -> None:
    clock = SystemClock()
    before = time.time_ns() // 1_000, time.monotonic()
    shown = clock.wall_us(), clock.monotonic()
    after = time.time_ns() // 1_000, time.monotonic()
    assert before[0] <= shown[0] <= after[0]
    assert before[1] <= shown[1] <= after[1]


def test_memory_grows_with_what_is_held() -> None:
    before = runtime.memory_bytes()
    held = b"\x01" * (64 << 20)
    assert runtime.memory_bytes() - before > len(held) // 2


def test_an_exception_of_a_task_reaches_whoever_spawned_it() -> None:
    error = ValueError("a mistake")

    async def fail() -> None:
        raise error

    async def main() -> list[BaseException]:
        told: list[BaseException] = []
        task = runtime.spawn(fail(), name="failing", on_error=told.append)
        assert task.get_name() == "failing"
        await asyncio.wait((task,))
        return told

    assert asyncio.run(main()) == [error]


def test_a_task_that_ends_or_is_cancelled_is_no_error() -> None:
    async def main() -> list[BaseException]:
        told: list[BaseException] = []
        ends = runtime.spawn(asyncio.sleep(0), name="ends", on_error=told.append)
        hangs = runtime.spawn(asyncio.sleep(3600), name="hangs", on_error=told.append)
        await ends
        hangs.cancel()
        await asyncio.wait((hangs,))
        return told

    assert asyncio.run(main()) == []


def test_main_runs_on_uvloop_with_a_short_switch_interval() -> None:
    before = sys.getswitchinterval()

    async def main() -> tuple[bool, float]:
        return isinstance(asyncio.get_running_loop(), uvloop.Loop), sys.getswitchinterval()

    try:
        is_uvloop, interval_s = runtime.run(main())
    finally:
        sys.setswitchinterval(before)
    assert is_uvloop
    assert interval_s == pytest.approx(0.0005)
