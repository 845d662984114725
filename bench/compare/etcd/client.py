"""Clients that cost little, so that what is measured is the server: C, by way of HTTP/2.

Two of them: `grpc_load.c` beside this file, compiled for the run, and h2load of the nghttp2
project, which repeats one request over one key. The first is used where it can be compiled.
"""

import re
import shutil
from pathlib import Path
from typing import Protocol

import msgspec

from bench.compare import programs
from bench.compare.etcd.calls import Calls
from bench.compare.peer import Load, PeerFailedError
from multiraft.cli.measure import Latency

SOURCE = Path(__file__).with_name("grpc_load.c")
STREAMS_PER_CONNECTION_MAX = 32
"""With more, etcd's throughput falls: it answers a connection's streams one after the other."""

_LAST_ANSWERS_S = 15.0
_COMPILER_S = 60.0


class Client(Protocol):
    """A program that keeps calls in flight."""

    @property
    def description(self) -> str:
        """What it is, for the settings of a round."""

    async def run(self, address: str, calls: Calls, callers: int, seconds: float) -> Load:
        """Make the calls in turn, so many at a time. Raises PeerFailedError if any fails."""


class GrpcLoadReport(msgspec.Struct, frozen=True):
    """What `grpc_load` prints."""

    requests: int
    failed: int
    seconds: float
    p50_us: int
    p99_us: int
    p999_us: int
    max_us: int
    response_bytes: int
    cpu_s: float
    problem: str


class GrpcLoad:
    """The client compiled from `grpc_load.c`."""

    description = f"grpc_load.c, {STREAMS_PER_CONNECTION_MAX} streams a connection at most"

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    async def run(self, address: str, calls: Calls, callers: int, seconds: float) -> Load:
        """Make the calls in turn, so many at a time. Raises PeerFailedError if any fails."""
        host, _, port = address.rpartition(":")
        file = self._binary.with_name("bodies")
        file.write_bytes(b"".join(calls.bodies))
        counts = (str(connections_for(callers)), str(callers), str(seconds))
        arguments = [str(self._binary), host, port, *counts, calls.path, str(file)]
        ended = await programs.run(arguments, timeout_s=seconds + _LAST_ANSWERS_S)
        return read_report(ended.output, calls.answer_bytes_min)


def read_report(output: bytes, answer_bytes_min: int) -> Load:
    """Return what `grpc_load` printed. Raises PeerFailedError if a request failed or lacks rows."""
    report = msgspec.json.decode(output, type=GrpcLoadReport)
    if report.failed:
        raise PeerFailedError(f"{report.failed} requests failed: {report.problem}")
    if report.response_bytes < answer_bytes_min * report.requests:
        raise PeerFailedError(f"answers lack rows: {report.response_bytes} bytes in all")
    microseconds = (report.p50_us, report.p99_us, report.p999_us, report.max_us)
    latency = Latency(*(each / 1_000 for each in microseconds))
    return Load(report.requests, report.seconds, latency, report.cpu_s)


class H2load:
    """The client of the nghttp2 project, which sends the first of the bodies again and again.

    It looks at HTTP's status only, not at gRPC's.
    """

    description = (
        f"h2load (one key), {STREAMS_PER_CONNECTION_MAX} streams a connection at most; "
        "grpc_load.c needs gcc and libnghttp2-dev"
    )

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory

    async def run(self, address: str, calls: Calls, callers: int, seconds: float) -> Load:
        """Make the calls in turn, so many at a time. Raises PeerFailedError if any fails."""
        file, log = self._directory / "body", self._directory / "h2load.log"
        file.write_bytes(calls.bodies[0])
        log.unlink(missing_ok=True)
        connections = connections_for(callers)
        arguments = [
            *(self._binary, f"--duration={round(seconds * 1_000)}ms", f"--clients={connections}"),
            *(f"--max-concurrent-streams={callers // connections}", f"--data={file}"),
            *("--header=te: trailers", "--header=content-type: application/grpc"),
            *(f"--log-file={log}", f"http://{address}{calls.path}"),
        ]
        ended = await programs.run(arguments, timeout_s=seconds + _LAST_ANSWERS_S)
        return read_h2load(ended.output.decode(), log.read_text(), ended.cpu_s)


def read_h2load(output: str, log: str, client_cpu_s: float) -> Load:
    """Return what h2load printed, and the latencies of its log. Raises PeerFailedError."""
    seconds = re.search(r"^finished in ([\d.]+)(ms|s),", output, re.MULTILINE)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if seconds is None or counts is None:
        raise PeerFailedError(f"h2load says: {output}")
    succeeded, failed, errored = map(int, counts.groups())
    if failed or errored or not succeeded:
        raise PeerFailedError(f"of h2load's requests {failed} failed, {errored} were not answered")
    latencies = sorted(int(line.split("\t")[2]) for line in log.splitlines())
    shares = (0.5, 0.99, 0.999, 1.0)
    positions = [min(len(latencies) - 1, int(share * len(latencies))) for share in shares]
    latency = Latency(*(latencies[position] / 1_000 for position in positions))
    scale = 1_000 if seconds[2] == "ms" else 1
    return Load(succeeded, float(seconds[1]) / scale, latency, client_cpu_s)


def connections_for(callers: int) -> int:
    """Return over how many connections so many callers spread evenly."""
    return -(-callers // STREAMS_PER_CONNECTION_MAX)


def missing() -> str | None:
    """Return what has to be installed before there is any client."""
    if shutil.which("gcc") is None and shutil.which("h2load") is None:
        return "gcc and libnghttp2-dev, or h2load (nghttp2-client)"
    return None


async def prepare(directory: Path) -> Client:
    """Return the compiled client, or else h2load. Raises PeerFailedError if there is neither."""
    binary = directory / "grpc_load"
    problem = "gcc is not installed"
    compiler = shutil.which("gcc")
    if compiler is not None:
        arguments = [compiler, "-O2", "-o", str(binary), str(SOURCE), "-lnghttp2"]
        try:
            await programs.run(arguments, timeout_s=_COMPILER_S)
        except PeerFailedError as error:
            problem = str(error)
        else:
            return GrpcLoad(binary)
    h2load = shutil.which("h2load")
    if h2load is None:
        raise PeerFailedError(f"no client: {problem}; and h2load is not installed")
    return H2load(h2load, directory)
