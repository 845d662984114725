import asyncio
import os
from pathlib import Path

from multiraft.cli.cluster_process import NodeProcess
from multiraft.cli.torture import usage
from multiraft.cli.torture.usage import NodeUsage, Usage, UsageWatch


class _Itself(NodeProcess):
    """This process, as a node; its directory is given."""

    is_running = True
    pid = os.getpid()


def node(directory: Path) -> NodeProcess:
    rocks = directory / "node1" / "rocks"
    rocks.mkdir(parents=True)
    made = _Itself(1, directory / "node1", "127.0.0.1:1", directory / "config.toml")
    made.log_file.write_bytes(b"said")
    (rocks / "000001.log").write_bytes(bytes(100))
    (rocks / "000002.sst").write_bytes(bytes(1_000))
    return made


def test_early_end_and_most_are_told_apart(tmp_path: Path) -> None:
    process = node(tmp_path)
    watch = UsageWatch([process], seconds=80.0)
    wal = process.directory / "rocks" / "000001.log"
    for size, is_early in ((100, True), (200, True), (900, False), (300, False)):
        wal.write_bytes(bytes(size))
        watch.look(is_early=is_early)
    (found,) = watch.found()
    sizes = [each.wal_bytes for each in (found.start, found.early, found.end, found.most)]
    assert sizes == [100, 200, 300, 900]
    assert found.end.data_bytes == 1_300
    assert found.end.log_bytes == 4
    assert found.end.memory_bytes > 1 << 20
    assert found.end.descriptors >= 3


def test_a_node_that_does_not_run_is_passed_by(tmp_path: Path) -> None:
    process = NodeProcess(1, tmp_path / "node1", "127.0.0.1:1", tmp_path / "config.toml")
    watch = UsageWatch([process], seconds=1.0)
    watch.look()
    assert watch.found() == ()


def test_a_node_that_ends_while_it_is_looked_at_is_passed_by(tmp_path: Path) -> None:
    process = node(tmp_path)
    process.log_file.unlink()
    watch = UsageWatch([process], seconds=1.0)
    watch.look()
    assert watch.found() == ()


def test_the_watch_looks_at_once(tmp_path: Path) -> None:
    watch = UsageWatch([node(tmp_path)], seconds=1.0)

    async def main() -> None:
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    assert len(watch.found()) == 1


def test_the_node_that_grew_most_is_found_by_measure() -> None:
    little, much = Usage(100, 10, 5, 5, 5), Usage(130, 12, 5, 5, 0)
    steady = NodeUsage(1, little, little, little, little)
    grown = NodeUsage(2, little, little, much, much)
    assert usage.grown_most([steady, grown], "memory_bytes") is grown
    assert usage.grown_most([steady, grown], "log_bytes") is steady
    assert grown.growth("descriptors") == 1.2
