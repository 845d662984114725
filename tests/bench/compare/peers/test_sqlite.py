import asyncio
import sqlite3
from pathlib import Path

import pytest

from bench.compare.peer import Data, Operation
from bench.compare.peers.sqlite import SqlitePeer

DATA = Data(keys=200, value_bytes=8)


@pytest.mark.parametrize("operation", sorted(SqlitePeer.operations))
def test_it_begins_with_the_rows_and_counts_its_requests(
    operation: Operation, tmp_path: Path
) -> None:
    async def measure() -> None:
        async with SqlitePeer().start(tmp_path, DATA) as running:
            with sqlite3.connect(tmp_path / "db") as other:
                assert other.execute("SELECT count(*) FROM rows").fetchone() == (DATA.keys,)
            load = await running.run(operation, 1, 0.02)
        assert load.requests > 0
        assert load.latency_ms.p50 > 0
        assert not running.pids

    asyncio.run(measure())


def test_a_load_that_is_cancelled_has_ended_when_the_database_is_closed(tmp_path: Path) -> None:
    async def interrupt() -> None:
        async with SqlitePeer().start(tmp_path, DATA) as running:
            async with asyncio.timeout(0.01):
                await running.run(Operation.PUT, 1, 3_600.0)

    with pytest.raises(TimeoutError):
        asyncio.run(interrupt())
