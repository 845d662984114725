"""What a cluster of local processes tells of those that end: programs that speak as nodes do."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from multiraft.cli.cluster_process import LocalCluster, NodeProcess

pytestmark = pytest.mark.integration

READY = '{"event": "ready", "node_id": 1, "address": "", "cluster_id": ""}'
SERVE = f"print({READY!r}, flush=True); input()"


class Speaker(NodeProcess):
    """Says that it serves, and ends when its standard input does."""

    program = SERVE

    def _command(self) -> Sequence[str]:
        return sys.executable, "-c", self.program


class Brief(Speaker):
    """Ends by itself as soon as it serves."""

    program = f"print({READY!r})"


class KilledAtStart(Speaker):
    """Is killed when it has said that it serves, and its start has not returned."""

    async def start(self) -> None:
        """See NodeProcess."""
        await super().start()
        await self.kill()


async def ends_of(kind: type[NodeProcess], directory: Path) -> list[int]:
    """Start one, let it end and be killed, and return the ends that `on_end` was told."""
    told: list[int] = []
    cluster = LocalCluster(directory, [], on_end=lambda _process, status: told.append(status))
    process = kind(1, directory / "node1", "127.0.0.1:1", directory / "config.toml")
    await cluster.start_node(process)
    if kind is not Speaker:
        await process.wait()
    await asyncio.sleep(0)
    await cluster.kill_node(process)
    return told


@pytest.mark.parametrize(
    ("kind", "told"), [(Speaker, []), (Brief, [0]), (KilledAtStart, [])], ids=str
)
def test_only_who_ends_by_itself_is_told_of(
    kind: type[NodeProcess], told: list[int], tmp_path: Path
) -> None:
    assert asyncio.run(ends_of(kind, tmp_path)) == told
