"""Interprets tests/scenarios/anomaly_*.txt: what transactions may not see, by Adya's names.

    cluster [laying]              three nodes, and ranges that begin at g, n and t; with `laying`,
                                  every put is laid as an intent at once, not at the commit
    put KEY VALUE...              outside transactions                get KEY...
    T begin                       T get KEY...      T lock KEY        T scan START END
    T put KEY VALUE               T delete KEY      T delete-range START END
    T commit                      T rollback

A command that others hold up says that it waits; what it gives is told behind the command that lets
it go on. A transaction that cannot go on as it is must run again, from its start, which is what
`db.run` does by itself.
"""

import asyncio
import shlex
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.config import Config
from multiraft.sim.loop import VirtualLoop
from multiraft.testing.cluster import SETTINGS, Cluster
from tests.support import scenarios

BORDERS = (b"g", b"n", b"t")
WAITS_S = 0.2
"""Whoever has no answer after so long waits for somebody."""

LAYING = msgspec.structs.replace(
    SETTINGS, client=msgspec.structs.replace(SETTINGS.client, transaction_buffer_bytes_max=1)
)


class Interpreter:
    """The state of one scenario: a cluster, its transactions, and those that wait."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.transactions: dict[str, Transaction] = {}
        self.waiting: dict[str, asyncio.Task[str]] = {}
        self.has_started = False
        self.cluster: Cluster
        self.db: Database

    def __call__(self, line: str) -> Iterator[str]:
        """Carry out a command, and tell what came of it and of those that waited."""
        return iter(self.runner.run(self.carry_out(*shlex.split(line))))

    async def carry_out(self, who: str, *arguments: str) -> list[str]:
        if who == "cluster":
            await self.start(LAYING if arguments else SETTINGS)
            return []
        if who in ("put", "get"):
            work = self.outside(who, *arguments)
        else:
            work = self.inside(who, *arguments)
        assert who not in self.waiting, f"{who} waits, and can do nothing else"
        self.waiting[who] = asyncio.ensure_future(told(work))
        await asyncio.wait(self.waiting.values(), timeout=WAITS_S)
        await asyncio.sleep(WAITS_S)
        lines = []
        for name, task in sorted(self.waiting.items(), key=lambda item: item[0] != who):
            if task.done():
                del self.waiting[name]
                if task.result():
                    lines.append(f"{name}: {task.result()}")
            elif name == who:
                lines.append(f"{who} waits")
        return lines

    async def start(self, config: Config) -> None:
        if self.has_started:
            await self.stop()
        self.has_started = True
        self.cluster = Cluster(config=config)
        await self.cluster.__aenter__()
        self.db = self.cluster.connect()
        await self.db.open()
        for border in BORDERS:
            await self.db.admin.split(border)

    async def stop(self) -> None:
        await self.db.close()
        await self.cluster.__aexit__(None, None, None)

    async def outside(self, verb: str, *arguments: str) -> str:
        if verb == "put":
            for key, value in zip(arguments[::2], arguments[1::2], strict=True):
                await self.db.put(key.encode(), value.encode())
            return ""
        return show([(key, await self.db.get(key.encode())) for key in arguments])

    async def inside(self, name: str, verb: str, *arguments: str) -> str:
        if verb == "begin":
            self.transactions[name] = self.db.transaction()
            return ""
        txn = self.transactions[name]
        keys = [argument.encode() for argument in arguments]
        match verb:
            case "get":
                return show([(key.decode(), await txn.get(key)) for key in keys])
            case "lock":
                return show([(keys[0].decode(), await txn.get(keys[0], for_update=True))])
            case "scan":
                return show([(k.decode(), v) async for k, v in txn.scan(*keys)]) or "nothing"
            case "put":
                await txn.put(*keys)
            case "delete":
                await txn.delete(keys[0])
            case "delete-range":
                return f"{await txn.delete_range(*keys)} removed"
            case "commit":
                await txn.commit()
                return "has committed"
            case "rollback":
                await txn.rollback()
            case _:
                raise AssertionError(f"what is {verb}?")
        return ""


async def told(work: Coroutine[Any, Any, str]) -> str:
    """Return what a command gave, or that its transaction must run again."""
    try:
        return await work
    except errors.TransactionRetryError:
        return "must run again"


def show(found: Sequence[tuple[str, bytes | None]]) -> str:
    return ", ".join(
        f"{key} = {value.decode()}" if value is not None else f"no {key}" for key, value in found
    )


@pytest.mark.parametrize(
    "path", sorted(scenarios.SCENARIOS.glob("anomaly_*.txt")), ids=lambda p: p.stem
)
def test_scenario(path: Path) -> None:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s=1_000)) as runner:
        interpreter = Interpreter(runner)
        scenarios.check(path, interpreter)
        runner.run(interpreter.stop())
