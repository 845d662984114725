"""How the command as a whole hears of signals, and of readers that are gone."""

import os
import signal
import subprocess
import sys
from typing import IO

import pytest

from multiraft.cli.failure import ExitCode

pytestmark = pytest.mark.integration

COMMAND = """
import asyncio, sys
from multiraft.cli import app

async def command():
    try:
        print("runs", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print("still runs", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

app.app = lambda: asyncio.run(command())
app.main()
"""


def line_of(stream: IO[bytes] | None) -> str:
    assert stream is not None
    return stream.readline().decode().strip()


@pytest.mark.parametrize("is_background", [False, True])
def test_sigterm_ends_a_command_in_good_order(is_background: bool) -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    with subprocess.Popen(
        [sys.executable, "-c", (ignoring if is_background else "") + COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert line_of(process.stdout) == "runs"
        assert process.stdin is not None
        if is_background:
            process.send_signal(signal.SIGINT)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert line_of(process.stdout) == "still runs"
        process.send_signal(signal.SIGTERM)
        assert line_of(process.stdout) == "cleaned up"
        _output, said = process.communicate()
        assert said.decode().endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("line", ["version", "version --json", "--help", "get", "--json get"])
def test_a_command_whose_reader_is_gone_ends_silently(line: str) -> None:
    reader, unread = os.pipe()
    os.close(reader)
    shown_on_stderr = line.endswith("get")
    done = subprocess.run(
        [sys.executable, "-m", "multiraft", *line.split()],
        stdout=subprocess.PIPE if shown_on_stderr else unread,
        stderr=unread if shown_on_stderr else subprocess.PIPE,
        check=False,
    )
    os.close(unread)
    assert done.returncode == ExitCode.UNREAD
    assert not done.stdout
    assert not done.stderr
