import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.compare import records, runner
from bench.compare.peer import Data, Load, Operation, PeerFailedError
from bench.compare.records import Measured, Record
from multiraft.cli.measure import Latency
from multiraft.sim import loop as virtual_loop


class FakePeer:
    """A peer that does nothing, in no time, and notes what it was asked."""

    remark = "nothing is real"
    is_durable = True
    callers_max: int | None = None

    def __init__(self, name: str, journal: list[str], operations: Sequence[Operation]) -> None:
        self.name = name
        self.operations = frozenset(operations)
        self.pids = [os.getpid()]
        self.settings = {"version": "0"}
        self.fails = False
        self.kills = False
        self.is_disk_synced = False
        self._journal = journal

    def missing(self) -> str | None:
        return None

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["FakePeer"]:
        assert not os.listdir(directory)
        self._journal.append(f"{self.name} starts")
        self.is_disk_synced = False
        try:
            yield self
        finally:
            self._journal.append(f"{self.name} ends")

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        assert self.is_disk_synced, "a load begins with nothing left to write"
        self._journal.append(f"{operation} {callers} {seconds:g}")
        if self.fails:
            raise PeerFailedError("out of order")
        if self.kills:
            self.pids = []
        return Load(10, seconds, Latency(), None)


def carry_out(
    directory: Path,
    peers: Sequence[FakePeer],
    operations: Sequence[Operation],
    *,
    callers: Sequence[int] = (1, 16),
    rounds: int = 1,
) -> list[Record]:
    kept: list[Record] = []
    plan = runner.Plan(operations, callers, rounds, 3.0, Data(), directory)

    async def sync_disks() -> None:
        for peer in peers:
            peer.is_disk_synced = True

    work = runner.Runner(plan, lambda _told: None, kept.append, sync_disks=sync_disks)
    virtual_loop.run(lambda _loop: work.run(peers))
    return kept


def test_peers_take_turns_and_every_load_is_preceded_by_one_that_does_not_count(
    tmp_path: Path,
) -> None:
    journal: list[str] = []
    peers = [FakePeer(name, journal, [Operation.PUT]) for name in "ab"]
    kept = carry_out(tmp_path, peers, [Operation.PUT], rounds=2)
    loads = ["put 1 1", "put 1 3", "put 16 1", "put 16 3"]
    turns = [["a starts", *loads, "a ends"], ["b starts", *loads, "b ends"]]
    assert journal == [line for turn in turns * 2 for line in turn]
    assert [(each.round, each.peer, each.callers) for each in kept] == [
        (number, peer, callers) for number in (1, 2) for peer in "ab" for callers in (1, 16)
    ]
    assert all(each.settings == {"version": "0"} for each in kept)
    assert not list(tmp_path.iterdir())


def test_a_peer_does_only_what_it_can(tmp_path: Path) -> None:
    journal: list[str] = []
    peer = FakePeer("a", journal, [Operation.PUT])
    peer.callers_max = 1
    kept = carry_out(tmp_path, [peer], [Operation.GET, Operation.PUT])
    assert [(each.operation, each.callers) for each in kept] == [(Operation.PUT, 1)]


def test_a_peer_that_fails_is_ended_and_recorded_and_the_next_has_its_turn(tmp_path: Path) -> None:
    journal: list[str] = []
    broken, sound = (FakePeer(name, journal, [Operation.PUT]) for name in "ab")
    broken.fails = True
    kept = carry_out(tmp_path, [broken, sound], [Operation.PUT], callers=[4])
    assert journal[:3] == ["a starts", "put 4 1", "a ends"]
    assert [(each.peer, each.problem, each.measured is None) for each in kept] == [
        ("a", "PeerFailedError('out of order')", True),
        ("b", "", False),
    ]


def test_idling_asks_nothing_of_the_peer_and_takes_its_time(tmp_path: Path) -> None:
    journal: list[str] = []
    (kept,) = carry_out(tmp_path, [FakePeer("a", journal, [Operation.IDLE])], [Operation.IDLE])
    assert journal == ["a starts", "a ends"]
    assert kept.measured is not None
    assert kept.measured.load == Load(0, 15.0, Latency(), None)
    assert kept.measured.server_cpu_s is not None


def test_processor_time_is_unknown_when_a_server_was_killed(tmp_path: Path) -> None:
    peer = FakePeer("a", [], [Operation.FAILOVER])
    peer.kills = True
    (kept,) = carry_out(tmp_path, [peer], [Operation.FAILOVER])
    assert kept.measured is not None
    assert kept.measured == Measured(Load(10, 3.0, Latency(), None))


def test_an_interrupted_run_ends_the_peer(tmp_path: Path) -> None:
    journal: list[str] = []

    class Endless(FakePeer):
        async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

    plan = runner.Plan([Operation.PUT], [1], 1, 3.0, Data(), tmp_path)

    async def nothing() -> None:
        pass

    work = runner.Runner(plan, lambda _told: None, lambda _record: None, sync_disks=nothing)

    async def interrupt() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await work.run([Endless("a", journal, [Operation.PUT])])

    virtual_loop.run(lambda _loop: interrupt())
    assert journal == ["a starts", "a ends"]


def test_records_are_read_as_they_were_kept(tmp_path: Path) -> None:
    kept = carry_out(tmp_path, [FakePeer("a", [], [Operation.PUT])], [Operation.PUT])
    for record in kept:
        records.append(tmp_path / "rounds.jsonl", record)
    assert records.read([tmp_path / "rounds.jsonl"]) == kept
