"""Nodes that cannot start as they were told: one line says what is wrong, with which value."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import multiraft
from multiraft import errors
from multiraft.cli import cluster_process
from multiraft.cli.cluster_process import NodeProcess
from multiraft.cli.failure import ExitCode
from multiraft.cli.torture import proxy
from multiraft.cli.torture.cuts import Cuts
from multiraft.ids import NodeId
from multiraft.net import addresses
from tests.support import processes
from tests.support.processes import failure_of

pytestmark = pytest.mark.integration


def free_address() -> str:
    return cluster_process.free_addresses(1)[0]


def node_at(directory: Path, address: str) -> NodeProcess:
    config_file = directory.parent / "alone.toml"
    config_file.write_text(cluster_process.CONFIG_TEXT)
    return NodeProcess(9, directory, address, config_file)


@pytest.mark.parametrize(
    ("name", "content", "code", "named"),
    [
        ("letter.txt", "dear reader", "directory_format", "letter.txt"),
        ("FORMAT", "multiraft store, format 9\n", "directory_format", "format 9"),
        ("FORMAT", "something else", "directory_format", "FORMAT"),
    ],
)
def test_a_directory_that_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, name: str, content: str, code: str, named: str
) -> None:
    (tmp_path / name).write_text(content)
    failure = failure_of("start", "--data", str(tmp_path), "--listen", free_address())
    assert (failure.status, failure.error["code"]) == (ExitCode.STARTUP, code)
    assert str(tmp_path) in failure.error["problem"]
    assert named in failure.error["problem"]
    assert (tmp_path / name).read_text() == content


def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    for path in (file, file / "below", Path("/proc/multiraft")):
        failure = failure_of("start", "--data", str(path), "--listen", free_address())
        assert failure.status == ExitCode.STARTUP
        assert str(path) in failure.error["problem"]


def test_a_port_in_use_is_named_and_the_directory_starts_at_another(tmp_path: Path) -> None:
    address = free_address()
    host, _, port = address.rpartition(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        failure = failure_of("start", "--data", str(tmp_path / "n1"), "--listen", address)
    assert (failure.status, failure.error["code"]) == (ExitCode.STARTUP, "address_in_use")
    assert address in failure.error["problem"]

    async def start_again() -> None:
        node = node_at(tmp_path / "n1", free_address())
        await node.start()
        async with multiraft.connect(node.address) as db:
            await db.put(b"k", b"v")
        await node.stop()

    processes.run(start_again())


def test_nodes_are_reached_where_they_advertise_and_not_where_they_listen(tmp_path: Path) -> None:
    async def main() -> None:
        listening = cluster_process.free_addresses(4)
        advertised = [listening.pop(), listening.pop()]
        config_file = tmp_path / "config.toml"
        config_file.write_text(cluster_process.CONFIG_TEXT)
        first, second = (
            NodeProcess(
                number,
                tmp_path / f"node{number}",
                listening[number - 1],
                config_file,
                join=advertised[: number - 1],
                advertise=advertised[number - 1],
            )
            for number in (1, 2)
        )
        async with proxy.in_front_of(listening, advertised, Cuts()):
            try:
                await first.start()
                await second.start()
                async with multiraft.connect(advertised[1]) as db:
                    for number in (1, 2):
                        status = await db.admin.node_status(NodeId(number))
                        assert status["address"] == advertised[number - 1]
            finally:
                await second.stop()
                await first.stop()

    processes.run(main())


def test_joining_nobody_fails_and_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    dead = free_address()
    directory = ("--data", str(tmp_path / "n1"), "--listen", free_address())
    failure = failure_of("join", dead, *directory)
    assert failure.status == ExitCode.STARTUP
    assert dead in failure.error["problem"]
    again = failure_of("join", dead, *directory)
    assert again.error["problem"] == failure.error["problem"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_waits_for_others_ends_at_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    config_file = tmp_path / "patient.toml"
    config_file.write_text("[net]\nhandshake_timeout_ms = 3600000\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(processes.PATIENCE_S)
        member = addresses.join(*silent.getsockname())
        options = ("--listen", free_address(), "--config", str(config_file))
        command = ("join", member, "--data", str(tmp_path / "n1"), *options)
        joining = subprocess.Popen([sys.executable, "-m", "multiraft", *command])
        try:
            connection, _ = silent.accept()
            with connection:
                joining.send_signal(number)
                assert joining.wait(processes.PATIENCE_S) == 0
        finally:
            joining.kill()
            joining.wait()


def test_a_listen_address_of_another_machine_is_named(tmp_path: Path) -> None:
    failure = failure_of("start", "--data", str(tmp_path / "n1"), "--listen", "192.0.2.1:7400")
    assert failure.status == ExitCode.STARTUP
    assert "192.0.2.1:7400" in failure.error["problem"]


def test_a_client_that_reaches_nobody_says_whom(tmp_path: Path) -> None:
    dead = free_address()
    failure = failure_of("--address", dead, "get", "k")
    assert failure.status == ExitCode.UNAVAILABLE
    assert dead in failure.error["problem"]
    assert "--address" in failure.error["remedy"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_node_runs_without_standard_files(tmp_path: Path, closed: str) -> None:
    """What is printed must not go into a file of the engine that took such a place."""
    address = free_address()
    node = f"'{sys.executable}' -m multiraft start --data '{tmp_path}/n1' --listen {address}"
    started = subprocess.Popen(["/bin/sh", "-c", f"exec {node} {closed}"])

    async def use() -> None:
        await processes.until_async(lambda: _answers(address), "the node serves")
        async with multiraft.connect(address) as db:
            await db.put(b"k", b"v")

    try:
        processes.run(use())
    finally:
        started.terminate()
        assert started.wait(processes.PATIENCE_S) == 0


async def _answers(address: str) -> bool:
    try:
        async with multiraft.connect(address):
            return True
    except errors.NodeUnavailableError:
        return False


def test_a_start_that_was_killed_half_way_can_be_repeated(tmp_path: Path) -> None:
    """A directory that was made, but got no identity, is as good as an empty one."""

    async def main() -> None:
        node = node_at(tmp_path / "n1", free_address())
        for delay_s in (0.25, 0.35, 0.45, 0.55):
            starting = asyncio.create_task(node.start())
            await asyncio.sleep(delay_s)
            await node.kill()
            await asyncio.wait([starting])
            starting.exception()
            await node.kill()
        await node.start()
        await node.stop()

    processes.run(main())


def test_a_copy_of_a_directory_does_not_start_beside_the_original(tmp_path: Path) -> None:
    """Others would send to the copy's address what is meant for the original (rule A7)."""

    async def main() -> None:
        async with processes.running(tmp_path / "a") as ours, processes.connect(ours) as db:
            await db.put(b"k", b"v")
            original = ours.nodes[0]
            await ours.kill_node(original)
            copy = tmp_path / "copy"
            shutil.copytree(original.directory, copy)
            await ours.start_node(original)
            told = ("start", "--data", str(copy), "--listen", free_address())
            failure = await asyncio.to_thread(failure_of, *told)
            assert (failure.status, failure.error["code"]) == (
                ExitCode.STARTUP,
                errors.WrongClusterError.code,
            )
            assert original.address in failure.error["problem"]
            for node in ours.nodes:
                async with multiraft.connect(node.address) as through:
                    assert await through.get(b"k") == b"v"
                    assert {each.address for each in await through.admin.nodes()} == {
                        each.address for each in ours.nodes
                    }

    processes.run(main())


def test_a_node_may_move_to_another_address(tmp_path: Path) -> None:
    async def main() -> None:
        for value in (b"1", b"2"):
            node = node_at(tmp_path / "n1", free_address())
            await node.start()
            async with multiraft.connect(node.address) as db:
                before = await db.get(b"k")
                assert before == (None if value == b"1" else b"1")
                await db.put(b"k", value)
            await node.stop()

    processes.run(main())


def test_clusters_do_not_mix(tmp_path: Path) -> None:
    """Addresses of another cluster, and a wiped disk behind an old address (rule A7)."""

    async def main() -> None:
        async with processes.running(tmp_path / "a") as ours, processes.connect(ours) as db:
            await db.put(b"k", b"ours")
            other = node_at(tmp_path / "other", free_address())
            await other.start()
            try:
                victim = ours.nodes[0]
                await ours.kill_node(victim)
                listen = ("--data", str(victim.directory), "--listen", victim.address)
                failure = await asyncio.to_thread(failure_of, "join", other.address, *listen)
                assert (failure.status, failure.error["code"]) == (
                    ExitCode.STARTUP,
                    errors.WrongClusterError.code,
                )
                assert other.address in failure.error["problem"]
                manifest = cluster_process.read_manifest(ours.directory)
                assert manifest is not None
                assert manifest.cluster_id in failure.error["problem"]
            finally:
                await other.stop()

            # The disk of that node is lost, and somebody starts an empty one in its place.
            impostor = node_at(tmp_path / "empty", victim.address)
            await impostor.start()
            try:
                async with multiraft.connect(impostor.address) as alone:
                    await alone.put(b"k", b"theirs")
                    assert alone.status().cluster_id != manifest.cluster_id
                    assert [info.address for info in await alone.admin.nodes()] == [victim.address]
                assert await db.get(b"k") == b"ours"
                for node in ours.nodes[1:]:
                    await ours.kill_node(node)
                    await ours.start_node(node)
                await db.put(b"k", b"still ours")
                assert await db.get(b"k") == b"still ours"
                async with multiraft.connect(impostor.address) as alone:
                    assert await alone.get(b"k") == b"theirs"
            finally:
                await impostor.stop()
            await ours.start_node(victim)
            assert await db.get(b"k") == b"still ours"

    processes.run(main())
