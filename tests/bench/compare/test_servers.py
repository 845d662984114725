import asyncio
import os
import sys
from pathlib import Path

import pytest

from bench.compare import servers
from bench.compare.peer import PeerFailedError

pytestmark = pytest.mark.integration

ECHO = (sys.executable, "-c", "while True: print(input().upper(), flush=True)")
BROKEN = (sys.executable, "-c", "raise SystemExit('the disk is full')")


async def never() -> bool:
    return False


def test_servers_are_killed_when_the_context_fails(tmp_path: Path) -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with servers.running([ECHO, ECHO], tmp_path, are_asked=True) as started:
            pids.extend(server.pid for server in started)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        asyncio.run(fail())
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_server_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    async def start() -> None:
        async with servers.running([BROKEN], tmp_path) as started:
            await servers.until_ready(started, never)

    with pytest.raises(PeerFailedError, match="the disk is full"):
        asyncio.run(start())


def test_a_server_answers_line_by_line_until_it_ends(tmp_path: Path) -> None:
    async def ask() -> None:
        async with servers.running([ECHO], tmp_path, are_asked=True) as (server,):
            assert await server.ask(b"one") == b"ONE\n"
            assert await server.ask(b"two") == b"TWO\n"
            await server.kill()
            assert not server.is_running
            with pytest.raises(PeerFailedError, match="ended"):
                await server.ask(b"three")

    asyncio.run(ask())
