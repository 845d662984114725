"""Server processes of peers: started, awaited, and ended by their IDs.

Invariants
    - No server outlives the context it was started in: whatever ends that, Ctrl-C included, kills
      them. They are killed, not stopped: nothing is left to save in a directory that goes too.
    - Signals of the terminal reach the harness only, so the order in which things end is its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from bench.compare.peer import PeerFailedError

READY_TIMEOUT_S = 30.0
_POLL_S = 0.02
_TAIL_LINES = 5


class Server:
    """One process, with what it prints in `log_file`.

    One that is `asked` questions answers them line by line on standard output, and gets the end of
    its input when the harness ends.
    """

    def __init__(self, command: Sequence[str], log_file: Path, *, is_asked: bool) -> None:
        self._command = command
        self._log_file = log_file
        self._is_asked = is_asked
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process ID; it must have been started."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; it may take a while until it serves."""
        pipe = asyncio.subprocess.PIPE
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=pipe if self._is_asked else asyncio.subprocess.DEVNULL,
                stdout=pipe if self._is_asked else log,
                stderr=log,
                start_new_session=True,
            )

    async def ask(self, question: bytes) -> bytes:
        """Write a line to the process and return the line it answers. Raises PeerFailedError."""
        assert self._process is not None, "the server was never started"
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "only those that are asked have a pipe"
        assert stdout is not None, "only those that are asked have a pipe"
        stdin.write(question + b"\n")
        answer = await stdout.readline()
        if not answer:
            raise PeerFailedError(f"a server ended:\n{self.last_words()}")
        return answer

    async def kill(self) -> None:
        """End the process at once (SIGKILL), and return when it has ended."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def last_words(self) -> str:
        """Return the end of what it printed."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@contextlib.asynccontextmanager
async def running(
    commands: Sequence[Sequence[str]],
    directory: Path,
    *,
    are_asked: bool = False,
) -> AsyncIterator[list[Server]]:
    """Run a process for each command until the end of the context."""
    servers = [
        Server(command, directory / f"server{number}.log", is_asked=are_asked)
        for number, command in enumerate(commands, start=1)
    ]
    try:
        for server in servers:
            await server.start()
        yield servers
    finally:
        await asyncio.shield(asyncio.gather(*(server.kill() for server in servers)))


async def until_ready(servers: Sequence[Server], is_ready: Callable[[], Awaitable[bool]]) -> None:
    """Return when `is_ready`. Raises PeerFailedError if a server ends, or it takes too long."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + READY_TIMEOUT_S
    while not await is_ready():
        for server in servers:
            if not server.is_running:
                raise PeerFailedError(f"a server ended at its start:\n{server.last_words()}")
        if loop.time() > give_up_at:
            raise PeerFailedError(f"not ready within {READY_TIMEOUT_S:g} s")
        await asyncio.sleep(_POLL_S)
