"""Flipped bits on one node's disk: it refuses to serve, the others carry on, no answer is wrong."""

import random
import shutil
from pathlib import Path

import pytest

from multiraft import errors
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.failure import ExitCode
from multiraft.client.database import Database
from multiraft.ids import NodeId
from tests.support import processes
from tests.support.histories import KeySet

pytestmark = pytest.mark.integration

SMALL_FILES = """
[storage]
raft_write_buffer_bytes = 65536
data_write_buffer_bytes = 65536
"""
FLIPS_PER_KIND = 2


def flip(file: Path, position: int) -> None:
    """Invert one bit."""
    with file.open("r+b") as opened:
        opened.seek(position)
        byte = opened.read(1)[0]
        opened.seek(position)
        opened.write(bytes([byte ^ 0x10]))


class Damage:
    """One node that is damaged and mended again and again, beside two that are well."""

    def __init__(self, cluster: LocalCluster, db: Database, writes: KeySet) -> None:
        self.cluster = cluster
        self.db = db
        self.writes = writes
        self.node: NodeProcess = cluster.nodes[0]
        self.random = random.Random(7)
        self.noticed = 0

    async def round(self, pattern: str) -> None:
        """Flip one bit in the largest file of a kind while the node is down, then start it."""
        await self.cluster.kill_node(self.node)
        files = self.node.directory.glob(f"rocks/{pattern}")
        file = max(files, key=lambda found: found.stat().st_size)
        position = self.random.randrange(file.stat().st_size)
        backup = self.node.directory.with_suffix(".backup")
        shutil.copytree(self.node.directory, backup)
        flip(file, position)
        try:
            await self.cluster.start_node(self.node)
        except errors.StartupError as error:
            self._check_told(error.message)
            # It did nothing under its name, so what it had before is as good as it was.
            shutil.rmtree(self.node.directory)
            backup.rename(self.node.directory)
        else:
            await self._let_it_lead()
            if not self.node.is_running:
                assert await self.node.wait() == ExitCode.STORE_FAILED
                self._check_told(self.node.last_words())
            await self.cluster.kill_node(self.node)
            if file.exists():
                flip(file, position)
            shutil.rmtree(backup)
        await self.writes.more()
        await self.writes.check()
        await self.cluster.start_node(self.node)

    def _check_told(self, problem: str) -> None:
        self.noticed += 1
        assert str(self.node.directory / "rocks") in problem, problem
        assert "orruption" in problem or "damaged" in problem, problem

    async def _let_it_lead(self) -> None:
        """Read all rows at the damaged node if it can be made to lead; they must be right."""
        try:
            for info in await self.db.admin.ranges(with_status=False):
                await self.db.admin.transfer(info.descriptor.range_id, NodeId(1), deadline_s=2)
        except (errors.RetryableError, errors.DeadlineExceededError, errors.OutcomeUnknownError):
            pass  # It ended at once, or did not catch up: then it answers nobody.
        await self.writes.check()


def test_a_node_with_a_flipped_bit_never_answers_wrongly(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "cluster", settings=SMALL_FILES) as cluster,
            processes.connect(cluster) as db,
            KeySet(db, callers=16, value_bytes=400) as writes,
        ):
            await writes.more(1_500)
            damage = Damage(cluster, db, writes)
            for _ in range(FLIPS_PER_KIND):
                await damage.round("*.sst")
            assert damage.noticed, "no flip in a file of sorted data was noticed"
            seen = damage.noticed
            for _ in range(FLIPS_PER_KIND):
                await damage.round("*.log")
            assert damage.noticed > seen, "no flip in the log was noticed"
            await writes.more()
            await writes.stop()
            await writes.check()
            assert (writes.refused, writes.unknown) == (0, 0)
            await processes.check_replicas_agree(db, cluster)

    processes.run(main())
