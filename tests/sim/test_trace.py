"""Two runs of one seed are the same run, and the trace tells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multiraft.ids import NodeId
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.trace import KINDS, WORLD, Ended, Event, Invoked, Note, Trace
from tests.support import traced_run

ROOT = Path(__file__).parents[2]


def digest_of(seed: int) -> str:
    trace = Trace()
    traced_run.run(seed, trace)
    return trace.digest()


def digest_in_a_process(seed: int, hash_seed: str) -> str:
    program = [sys.executable, "-m", "tests.support.traced_run", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        program, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return finished.stdout.strip()


def test_a_seed_gives_the_same_run_in_every_process_and_for_every_hash_seed() -> None:
    digest = digest_of(1)
    assert digest_of(1) == digest
    assert digest_in_a_process(1, "1") == digest
    assert digest_in_a_process(1, "2") == digest


def test_another_seed_gives_another_run() -> None:
    assert digest_of(2) != digest_of(3)


def test_being_traced_changes_nothing_in_a_run() -> None:
    assert (
        traced_run.run(4, None) == traced_run.run(4, Trace()) == traced_run.run(4, Trace(keep=True))
    )


def test_the_digest_does_not_depend_on_whether_events_are_kept() -> None:
    kept, forgotten = Trace(keep=True), Trace()
    traced_run.run(5, kept)
    traced_run.run(5, forgotten)
    assert kept.digest() == forgotten.digest()
    assert kept.events
    assert not forgotten.events


async def note_after(loop: VirtualLoop, trace: Trace, callbacks: int, text: str) -> None:
    trace.bind(loop)
    for _ in range(callbacks):
        done = loop.create_future()
        loop.call_soon(done.set_result, None)
        await done
    trace.note(WORLD, Note(text))


@pytest.mark.parametrize(("callbacks", "text"), [(2, "one"), (1, "other")])
def test_the_digest_tells_other_events_and_other_callbacks(callbacks: int, text: str) -> None:
    one, other = Trace(), Trace()
    virtual_loop.run(lambda loop: note_after(loop, one, 1, "one"))
    virtual_loop.run(lambda loop: note_after(loop, other, callbacks, text))
    assert one.digest() != other.digest()


@pytest.mark.parametrize("frame", [(1, 2, b"another frame"), (1, 3, b"a frame")])
def test_frames_change_the_digest_and_are_no_events(frame: tuple[int, int, bytes]) -> None:
    def with_frame(source: int, target: int, payload: bytes) -> Trace:
        trace = Trace(keep=True)
        trace.covering(source, lambda *_: None)(NodeId(target), payload)
        return trace

    one, other = with_frame(1, 2, b"a frame"), with_frame(*frame)
    assert len({one.digest(), other.digest(), Trace().digest()}) == 3
    assert not one.events


class Standstill:
    """A loop whose time stands still."""

    def time(self) -> float:
        return 1.5


def test_a_call_is_told_with_its_client_function_and_key_at_both_ends() -> None:
    trace = Trace(keep=True)
    trace.bind(Standstill())
    number = trace.invoked(7, "put", b"\xff")
    trace.ended(number, "unknown", "too late")
    assert trace.events == [
        Event(1_500_000, WORLD, Invoked(number, "7", "put", b"\xff")),
        Event(1_500_000, WORLD, Ended(number, "7", "put", b"\xff", "unknown", "too late")),
    ]


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.__struct_config__.tag for kind in KINDS}) == len(KINDS)
