"""`multiraft local` and everything that talks to it, as real processes on loopback."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from multiraft.cli import cluster_process
from multiraft.cli.app import app
from multiraft.cli.session import Environment

pytestmark = pytest.mark.integration

ENDS_WITHIN_S = 30
UNBUFFERED = os.environ | {"PYTHONUNBUFFERED": "1"}


class Local:
    """A running `multiraft local` and commands against it."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any]) -> None:
        self.process = process
        self.pids: list[int] = ready["pids"]
        self.addresses: list[str] = ready["addresses"]

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command against the cluster, expect an exit status, return what it wrote."""
        options = ("--address", ",".join(self.addresses))
        result = CliRunner().invoke(app, [*options, *arguments], obj=Environment())
        assert result.exit_code == status, (arguments, result.stderr)
        return result.stdout

    def next_event(self) -> Any:  # noqa: ANN401
        """Wait for the next line that the command prints."""
        assert self.process.stdout is not None
        return orjson.loads(self.process.stdout.readline())

    def interrupt(self) -> int:
        """End it as Ctrl-C does; return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(ENDS_WITHIN_S)


@contextlib.contextmanager
def spawn(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "multiraft", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def local(*arguments: str) -> Iterator[Local]:
    """Run `multiraft local` until the block ends; its nodes end with it, however it ends."""
    with spawn("local", *arguments) as process:
        assert process.stdout is not None
        yield Local(process, orjson.loads(process.stdout.readline()))


def free_port(nodes: int = 3) -> str:
    """Return the first of several ports in a row that nobody uses."""
    for address in cluster_process.free_addresses(20):
        first = int(address.rpartition(":")[2])
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for offset in range(nodes):
                each = stack.enter_context(socket.socket())
                each.bind((cluster_process.LOOPBACK, first + offset))
            return str(first)
    raise AssertionError("there are no free ports in a row")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_write_split_kill_and_start_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with local("--data", str(data), "--port", free_port()) as cluster:
        cluster.run("put", "a", "1")
        cluster.run("put", "z", "26")
        cluster.run("split", "m")
        assert cluster.run("get", "z") == "26\n"
        assert cluster.run("scan") == "a\t1\nz\t26\n"

        os.kill(cluster.pids[0], signal.SIGKILL)
        event = cluster.next_event()
        assert event == {"event": "node_ended", "node": 1, "status": -signal.SIGKILL}
        cluster.run("put", "m", "13")
        assert cluster.run("scan") == "a\t1\nm\t13\nz\t26\n"
        states = orjson.loads(cluster.run("status", "--json", status=3))["nodes"]
        assert [node["is_reachable"] for node in states] == [False, True, True]

        restart = (
            *("start", "--data", str(data / "node1"), "--listen", cluster.addresses[0]),
            *("--config", str(data / "config.toml")),
        )
        with spawn(*restart) as node:
            assert node.stdout is not None
            assert orjson.loads(node.stdout.readline())["node_id"] == 1
            cluster.run("status")
            node.send_signal(signal.SIGTERM)
            assert node.wait(ENDS_WITHIN_S) == 0

        assert cluster.interrupt() == 0
        assert not any(is_running(pid) for pid in cluster.pids)

    with local("--data", str(data)) as again:
        assert again.addresses == cluster.addresses
        assert again.run("scan") == "a\t1\nm\t13\nz\t26\n"
        assert again.interrupt() == 0


def test_it_can_be_interrupted_in_the_background_too(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for its jobs there
    try:
        with local("--data", str(tmp_path / "data"), "--port", free_port()) as cluster:
            assert cluster.interrupt() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_nodes_end_when_the_command_is_killed(tmp_path: Path) -> None:
    with local("--data", str(tmp_path), "--nodes", "1", "--port", free_port(1)) as cluster:
        with open_pid(cluster.pids[0]) as node:
            cluster.process.kill()
            ended, _, _ = select.select([node], [], [], ENDS_WITHIN_S)
        assert ended


@contextlib.contextmanager
def open_pid(pid: int) -> Iterator[int]:
    """Give a handle that becomes readable when the process ends."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def failure_of(process: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any]]:
    """Wait for a command to fail; return its exit status and the error that it told."""
    _, notes = process.communicate(timeout=ENDS_WITHIN_S)
    return process.returncode, orjson.loads(notes.splitlines()[-1])["error"]


def test_a_taken_port_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind((cluster_process.LOOPBACK, int(port)))
        taken.listen()
        with spawn("local", "--data", str(tmp_path / "data"), "--port", port) as process:
            status, error = failure_of(process)
    assert status == 6
    assert port in error["problem"]
    assert not (tmp_path / "data").exists(), "it would be bound to that port"


def test_a_directory_in_use_is_named(tmp_path: Path) -> None:
    with local("--data", str(tmp_path), "--nodes", "1", "--port", free_port(1)):
        start = ("start", "--data", str(tmp_path / "node1"), "--listen", "127.0.0.1:0")
        with spawn(*start) as process:
            status, error = failure_of(process)
    assert status == 6
    assert error["code"] == "directory_in_use"
    assert str(tmp_path / "node1") in error["problem"]


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with spawn("local", "--data", str(tmp_path)) as process:
        status, error = failure_of(process)
    assert status == 6
    assert str(tmp_path) in error["problem"]
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("option", [("--nodes", "4"), ("--port", "1234")])
def test_another_shape_of_an_existing_cluster_is_refused(
    tmp_path: Path, option: tuple[str, str]
) -> None:
    cluster_process.create(tmp_path, cluster_process.free_addresses(1))
    with spawn("local", "--data", str(tmp_path), *option) as process:
        status, error = failure_of(process)
    assert status == 6
    assert option[0] in error["problem"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "multiraft", "demo", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=UNBUFFERED) as process:
        try:
            assert process.stdout is not None
            pids = []
            for line in process.stdout:
                pids += [int(number) for number in re.findall(rb", process (\d+)", line)]
                if b"Load the Unicode" in line:
                    break
            assert len(pids) == 3
            assert all(is_running(pid) for pid in pids)
            process.send_signal(number)
            assert process.wait(ENDS_WITHIN_S) == 130
        finally:
            process.kill()
    assert not any(is_running(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []
