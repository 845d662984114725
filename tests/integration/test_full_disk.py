"""A disk that fills up: a small tmpfs under one node, where the machine lets us mount one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from multiraft.ids import NodeId
from tests.support import processes
from tests.support.histories import KeySet

pytestmark = pytest.mark.integration

SIZE_MIB = 64
RESERVE_BYTES = 16 << 20
SETTINGS = f"\n[storage]\nfree_reserve_bytes = {RESERVE_BYTES}\n"


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Mount a file system of its own at `directory`."""
    directory.mkdir(parents=True)
    size = f"size={SIZE_MIB}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(directory)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


class Ballast:
    """A file that takes up space on the small disk."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "lost+found"  # the one stranger that a data directory may hold
        self._disk = disk

    def leave(self, free_bytes: int) -> None:
        """Fill the disk until only so much is free."""
        found = os.statvfs(self._disk)
        extra = found.f_bavail * found.f_frsize - free_bytes
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            while extra > 0:
                extra -= file.write(bytes(min(extra, 1 << 16)))

    def remove(self) -> None:
        """Give the space back."""
        self._path.unlink()


def test_a_full_disk_costs_one_node_and_no_acknowledged_write(tmp_path: Path) -> None:
    disk = tmp_path / "cluster" / "node1"
    ballast = Ballast(disk)

    async def main() -> None:
        async with (
            processes.running(tmp_path / "cluster", settings=SETTINGS) as cluster,
            processes.connect(cluster) as db,
            KeySet(db) as writes,
        ):
            victim = cluster.nodes[0]
            range_id = await processes.user_range(db)
            await db.admin.transfer(range_id, NodeId(1))
            await writes.more()

            # Little is left: the node gives its leaderships away, and no client notices.
            ballast.leave(RESERVE_BYTES * 3 // 4)

            async def another_leads() -> bool:
                return await processes.leader_of(db, cluster, range_id) is not victim

            await processes.until_async(another_leads, "another node leads")
            await writes.more()
            assert writes.refused == 0

            # Nothing is left: the store stops, the others carry on.
            ballast.leave(0)
            await processes.until(lambda: not victim.is_running, "the full node ends")
            assert await victim.wait() == 7
            assert "No space left on device" in victim.log_file.read_text()
            await writes.more()

            # Still full: it does not start, and says why.
            start = ("start", "--data", str(disk), "--listen", victim.address)
            failure = processes.failure_of(*start)
            assert "No space left on device" in failure.error["problem"]

            ballast.remove()
            await cluster.start_node(victim)
            await writes.more()
            await writes.stop()
            await writes.check()
            assert (writes.refused, writes.unknown) == (0, 0)
            await processes.check_replicas_agree(db, cluster)

    with small_disk(disk):
        processes.run(main())
