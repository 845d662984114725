"""One node whose clock is eight hours ahead (trap T24), where libfaketime is installed."""

import asyncio
import os
from pathlib import Path
from unittest import mock

import pytest

from multiraft import errors
from multiraft.cli.failure import ExitCode
from tests.support import processes
from tests.support.histories import Counters, Register

pytestmark = pytest.mark.integration

LIBRARY = next(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_a_node_eight_hours_ahead_is_refused_and_drags_nobody_along(tmp_path: Path) -> None:
    ahead = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": "+8h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
            Register(db) as register,
            Counters(db) as counters,
        ):
            await register.more()
            wrong = cluster.nodes[2]
            await cluster.kill_node(wrong)
            with mock.patch.dict(os.environ, ahead):
                await cluster.start_node(wrong)
            await processes.until(lambda: not wrong.is_running, "the node ends itself")
            assert await wrong.wait() == ExitCode.STORE_FAILED
            assert "clock" in wrong.last_words()
            await asyncio.gather(register.more(), counters.more())
            # The others' clocks are what they were: a restart does not have to wait for hours.
            for node in cluster.nodes[:2]:
                await cluster.kill_node(node)
                await cluster.start_node(node)
            await asyncio.gather(register.more(), counters.more())
            with pytest.raises(errors.StartupError, match="clock"):
                await cluster.start_node(wrong)
            for workload in (register, counters):
                await workload.stop()
                await workload.check()
                assert (workload.refused, workload.unknown) == (0, 0)

    processes.run(main())
