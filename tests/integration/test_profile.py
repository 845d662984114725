"""Real nodes tell what they spend their time on, while clients are at work."""

import asyncio
import sys
from pathlib import Path

import msgspec
import orjson
import pytest

from multiraft.client.database import Database
from multiraft.cluster.profile import Beside, Profile, Stage
from tests.support import processes

pytestmark = pytest.mark.integration


async def keep_putting(db: Database, stop: asyncio.Event) -> int:
    done = 0
    while not stop.is_set():
        await db.put(b"key %d" % (done % 100), bytes(256))
        done += 1
    return done


def test_the_command_tells_of_every_node_of_a_busy_cluster(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
        ):
            await db.put(b"k", b"v")
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                callers = [group.create_task(keep_putting(db, stop)) for _ in range(8)]
                command = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "multiraft", "--json"),
                    *("--address", ",".join(cluster.addresses)),
                    *("debug", "profile", "--seconds", "1"),
                    stdout=asyncio.subprocess.PIPE,
                )
                output, _ = await command.communicate()
                stop.set()
            assert command.returncode == 0
            check(orjson.loads(output), sum(caller.result() for caller in callers))

    processes.run(main())


def check(found: list[dict[str, object]], puts: int) -> None:
    assert [info["node_id"] for info in found] == [1, 2, 3]
    profiles = [msgspec.convert(info["profile"], Profile) for info in found]
    leader = max(profiles, key=lambda profile: profile.requests)
    assert 0 < leader.requests <= puts + 10, "and a few of the commands themselves"
    for profile in profiles:
        assert profile.elapsed_us > 900_000, "timers may be a little early"
        assert profile.process_cpu_us > profile.loop_cpu_us > 0, "other threads work, too"
        stages = (*profile.stages, *profile.beside)
        idle = {stage.name for stage in stages if not stage.runs} - {Beside.GARBAGE}
        assert idle <= {Stage.EVALUATE, Stage.ANSWER}, "what only leaders do"
        assert profile.log_bytes > 256 * profile.syncs
        assert all(stage.us >= 0 for stage in profile.stages)
