"""The grouping with a scripted disk, and the thread with a real one's manners."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from multiraft.storage.syncer import Done, Syncer, SyncThread


class ScriptedDisk:
    """Syncs end when the test says so."""

    def __init__(self) -> None:
        self.running: list[Done] = []
        self.started = 0

    def start(self, finished: Done) -> None:
        self.started += 1
        self.running.append(finished)

    def finish(self, error: BaseException | None = None) -> None:
        self.running.pop(0)(error)


@pytest.fixture
def disk() -> ScriptedDisk:
    return ScriptedDisk()


@pytest.fixture
def syncer(disk: ScriptedDisk) -> Syncer:
    return Syncer(disk.start)


def noting(seen: list[object], name: str) -> Done:
    return lambda error: seen.append((name, error))


def test_first_request_starts_a_sync_at_once(disk: ScriptedDisk, syncer: Syncer) -> None:
    syncer.request(noting([], "a"))
    assert disk.started == 1


def test_requests_made_during_a_sync_share_the_next_one(disk: ScriptedDisk, syncer: Syncer) -> None:
    seen: list[object] = []
    for name in "abcd":
        syncer.request(noting(seen, name))
    assert disk.started == 1
    disk.finish()
    assert seen == [("a", None)]
    assert disk.started == 2
    disk.finish()
    assert seen == [("a", None), ("b", None), ("c", None), ("d", None)]
    assert disk.started == syncer.sync_count == 2


def test_the_next_sync_is_started_before_the_callbacks_run(
    disk: ScriptedDisk, syncer: Syncer
) -> None:
    started_when_called: list[int] = []
    syncer.request(lambda _: started_when_called.append(disk.started))
    syncer.request(noting([], "b"))
    disk.finish()
    assert started_when_called == [2]


def test_request_from_a_callback_is_not_covered_by_the_sync_that_ended(
    disk: ScriptedDisk, syncer: Syncer
) -> None:
    seen: list[object] = []
    syncer.request(lambda _: syncer.request(noting(seen, "inner")))
    disk.finish()
    assert seen == []
    disk.finish()
    assert seen == [("inner", None)]


def test_failed_sync_fails_those_who_wait_and_starts_no_other(
    disk: ScriptedDisk, syncer: Syncer
) -> None:
    seen: list[object] = []
    error = OSError("EIO")
    syncer.request(noting(seen, "a"))
    syncer.request(noting(seen, "b"))
    disk.finish(error)
    assert seen == [("a", error), ("b", error)]
    assert disk.started == 1


def test_request_after_a_failure_gets_the_error_without_a_sync(
    disk: ScriptedDisk, syncer: Syncer
) -> None:
    async def main() -> None:
        seen: list[object] = []
        error = OSError("EIO")
        syncer.request(noting(seen, "a"))
        disk.finish(error)
        syncer.request(noting(seen, "b"))
        assert seen == [("a", error)], "never from within the request"
        await asyncio.sleep(0)
        assert seen == [("a", error), ("b", error)]
        assert disk.started == 1

    asyncio.run(main())


def test_no_callback_runs_after_close(disk: ScriptedDisk, syncer: Syncer) -> None:
    seen: list[object] = []
    syncer.request(noting(seen, "a"))
    syncer.request(noting(seen, "b"))
    syncer.close()
    disk.finish()
    assert seen == []
    assert disk.started == 1


def test_close_from_a_callback_silences_the_ones_behind_it(
    disk: ScriptedDisk, syncer: Syncer
) -> None:
    seen: list[object] = []
    syncer.request(noting(seen, "a"))
    syncer.request(lambda _: syncer.close())
    syncer.request(noting(seen, "c"))
    disk.finish()
    disk.finish()
    assert seen == [("a", None)]


def run_thread(work: Callable[[], None], rest: Callable[[], None] = lambda: None) -> list[object]:
    """Run one sync through a SyncThread and return what the callback saw."""
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = SyncThread(work=work, rest=rest, rest_interval_s=60.0)
        thread.start(done.set_result)
        seen.append(await done)
        thread.close()

    asyncio.run(main())
    return seen


def test_thread_does_the_work_elsewhere_and_reports_on_the_loop() -> None:
    worked_in: list[threading.Thread] = []
    assert run_thread(lambda: worked_in.append(threading.current_thread())) == [None]
    assert worked_in != [threading.main_thread()]
    assert not worked_in[0].daemon, "a daemon inside RocksDB at exit aborts the process"
    assert not worked_in[0].is_alive(), "close waits for the thread"


def test_thread_hands_over_whatever_the_work_raises() -> None:
    error = RuntimeError("boom")

    def fail() -> None:
        raise error

    assert run_thread(fail) == [error]


def test_thread_rests_after_the_work_was_reported() -> None:
    order: list[str] = []
    run_thread(lambda: order.append("work"), lambda: order.append("rest"))
    assert order == ["work", "rest"]


def test_idle_thread_rests_at_its_interval() -> None:
    rested = threading.Event()
    thread = SyncThread(work=lambda: None, rest=rested.set, rest_interval_s=0.001)
    assert rested.wait(timeout=30)
    thread.close()


def test_thread_survives_a_loop_that_was_closed_meanwhile() -> None:
    released = threading.Event()

    def work() -> None:
        assert released.wait(timeout=30)

    thread = SyncThread(work=work, rest=lambda: None, rest_interval_s=60.0)

    async def main() -> None:
        thread.start(lambda _: None)

    asyncio.run(main())
    released.set()
    thread.close()


@pytest.mark.parametrize("rest_interval_s", [0.01, 3_600.0])
def test_interpreter_exits_although_nobody_closed_the_thread(rest_interval_s: float) -> None:
    program = (
        "from multiraft.storage.syncer import SyncThread\n"
        f"SyncThread(work=lambda: None, rest=lambda: None, rest_interval_s={rest_interval_s})\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert finished.returncode == 0
