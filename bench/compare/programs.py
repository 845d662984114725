"""Programs that a load consists of: run to their end, with the processor time they took."""

import asyncio
import contextlib
import resource
import signal
from collections.abc import Sequence

import msgspec

from bench.compare.peer import PeerFailedError

_PROBLEM_CHARACTERS = 500


class Ended(msgspec.Struct, frozen=True):
    """A program that ended well."""

    output: bytes
    cpu_s: float


async def run(arguments: Sequence[str], *, timeout_s: float) -> Ended:
    """Run a program to its end; nothing of it is left on return, however that comes about.

    Raises PeerFailedError, with what it had to say, if it fails or takes too long.
    """
    cpu_before_s = _cpu_of_ended_children_s()
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, problem = await process.communicate()
    except TimeoutError:
        raise PeerFailedError(f"{arguments[0]} did not end within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        told = problem.decode(errors="replace").strip()[-_PROBLEM_CHARACTERS:]
        raise PeerFailedError(f"{arguments[0]} ended with status {process.returncode}: {told}")
    return Ended(output, _cpu_of_ended_children_s() - cpu_before_s)


def _cpu_of_ended_children_s() -> float:
    # os.times() would do, but it counts in ticks of 10 ms.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
