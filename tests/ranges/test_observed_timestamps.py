"""Interprets tests/scenarios/observed_*.txt: what a transaction may miss, and what it may not.

    cluster               three nodes; n1 leads the keys below m, n2 the others
    put KEY VALUE         outside transactions
    T get KEY             reads; where there is a version that it may not miss it says so, and from
                          then on it would have to move its reads
    T lay KEY VALUE       lays an intent                      T commit      commits above it
    lead KEY NODE         hands the range of KEY over         split KEY
    clock NODE MS         moves a node's wall clock           restart       kills and starts all

A transaction takes any version above its read timestamp for one that may be older than itself, as
if clocks could differ by hours, unless an observed timestamp tells that it is not (rule S13).
"""

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import Get
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.loop import VirtualLoop
from tests.support import scenarios
from tests.support.range_scene import Scene, code_of, meta
from tests.support.serving import answered, now_of, plain
from tests.support.transactions import COMMITTED, STAGING, Transaction


class Interpreter:
    """The state of one scenario: a cluster, and its transactions."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.transactions: dict[str, Transaction] = {}
        self.cluster: Cluster
        self.db: Database

    def __call__(self, line: str) -> Iterator[str]:
        """Carry out a command, and tell what came of it."""
        told = self.runner.run(self.carry_out(*shlex.split(line)))
        return iter([told] if told else [])

    async def carry_out(self, verb: str, *arguments: str) -> str:
        keys = [argument.encode() for argument in arguments]
        match verb:
            case "cluster":
                await self.start()
            case "put":
                await self.db.put(*keys)
            case "split":
                await self.db.admin.split(keys[0])
                await self.cluster.until_served()
            case "lead":
                await self.lead(keys[0], int(arguments[1]))
            case "clock":
                self.cluster.members[int(arguments[0])].clock.step_wall(int(arguments[1]) / 1_000)
            case "restart":
                for number in self.cluster.members:
                    self.cluster.kill(number)
                for number in self.cluster.members:
                    await self.cluster.restart(number)
                await self.cluster.until_served()
            case _:
                return await self.inside(verb, *arguments)
        return ""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.cluster = Cluster(loop, nodes=3, config=FAST, seed=1)
        await self.cluster.start()
        self.db = self.cluster.connect()
        await self.db.open()
        await self.db.admin.split(b"m")
        await self.cluster.until_served()
        await self.lead(b"a", 1)
        await self.lead(b"z", 2)

    async def stop(self) -> None:
        await self.db.close()
        await self.cluster.stop()

    async def range_of(self, key: bytes) -> RangeId:
        found = [each.descriptor for each in await self.db.admin.ranges()]
        return next(d.range_id for d in found if d.start <= plain(key) < d.end)

    async def lead(self, key: bytes, number: int) -> None:
        range_id = await self.range_of(key)
        target = self.cluster.members[number]
        while self.cluster.leader(range_id) is not target:
            await self.db.admin.transfer(range_id, NodeId(number))
            await self.cluster.until(lambda: self.cluster.leader(range_id) is not None)
        await self.cluster.until_served()

    async def inside(self, name: str, verb: str, *arguments: str) -> str:
        txn = self.transactions.get(name)
        if txn is None:
            anchor = arguments[0].encode() if verb == "lay" else b""
            txn = self.transactions[name] = Transaction(self.cluster, anchor)
        match verb:
            case "get":
                return f"{name}: {await self.get(txn, arguments[0])}"
            case "lay":
                key, value = arguments
                range_id = await self.range_of(key.encode())
                await txn.laid_down({key.encode(): value.encode()}, range_id=range_id)
            case "commit":
                range_id = await self.range_of(next(iter(txn.laid)))
                at = now_of(txn.member(range_id))
                assert at > txn.laid_at, "the clock has moved on since the intent was laid"
                await txn.ended(STAGING, at, range_id=range_id)
                await txn.ended(COMMITTED, at, range_id=range_id)
            case _:
                raise AssertionError(f"what is {verb}?")
        return ""

    async def get(self, txn: Transaction, key: str) -> str:
        asked = txn.send(Get(plain(key.encode())), range_id=await self.range_of(key.encode()))
        await answered(self.cluster, asked)
        txn.observed.setdefault(asked.member.node_id, asked.reply.clock)
        if asked.code == "read_uncertain":
            return f"may not miss a version of {key}"
        value = asked.value
        if not txn.read_at:
            txn.read_at = asked.reply.timestamp
            txn.uncertainty_limit = hlc.MAX
        return f"no {key}" if value is None else f"{key} = {value.decode()}"


@pytest.mark.parametrize(
    "path", sorted(scenarios.SCENARIOS.glob("observed_*.txt")), ids=lambda p: p.stem
)
def test_scenario(path: Path) -> None:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s=10_000)) as runner:
        interpreter = Interpreter(runner)
        scenarios.check(path, interpreter)
        runner.run(interpreter.stop())


def test_the_interval_is_shortened_on_the_observed_node_alone() -> None:
    scene = Scene()
    scene.put(b"a", b"new", 200)
    assert scene.part(Get(b"a"), at=100, limit=300, observed={1: 150}).error is None
    for observed in ({2: 150}, {1: 200}, {2: 150, 1: 250}):
        outcome = scene.part(Get(b"a"), at=100, limit=300, observed=observed)
        assert code_of(outcome) == "read_uncertain"
    assert scene.part(Get(b"a"), at=100, limit=180, observed={1: 250}).error is None


def test_an_intent_that_was_pushed_up_is_not_taken_for_a_later_one() -> None:
    """It lies above the clock that was observed, but was laid before, and may have committed."""
    scene = Scene()
    scene.lay({b"a": b"new"}, txn=meta(b"w"), at=100)
    scene.locks.move(b"a", meta(b"w").id, Timestamp(180))
    scene.put(b"b", b"new", 170)
    assert code_of(scene.part(Get(b"b"), at=120, limit=300, observed={1: 150})) == "read_uncertain"
    assert scene.part(Get(b"b"), at=120, limit=160, observed={1: 150}).error is None
