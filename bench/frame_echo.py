"""Frames there and back over loopback TCP: what a connection carries, and what a frame costs.

    python bench/frame_echo.py [--seconds N]

The server is a process of its own. Each caller sends a frame, waits for its echo, and sends again.
A frame crosses twice and so is sent and received twice; the CPU column is the sum of both processes
divided by the number of echoes, thus four times what one end spends on one frame one way.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import time

from rich.console import Console
from rich.table import Table

from multiraft import runtime
from multiraft.config import NetConfig
from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Handler,
    Hello,
    Welcome,
)

CALLERS = (1, 16, 64, 256)
PAYLOADS = (16, 300, 4_096, 65_536)


class Echo:
    """Sends back what it gets."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Echo."""
        self._connection.send(FrameKind.REPLIES, payload)

    def closed(self, reason: str) -> None:
        """Nothing to clean up."""


class Callers:
    """A number of callers that keep one frame each on the way until told to stop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.echoes = 0

    def start(self, callers: int, payload: bytes) -> None:
        """Send the first frame of each."""
        for _ in range(callers):
            self._connection.send(FrameKind.REQUESTS, payload)

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Send the next one."""
        self.echoes += 1
        self._connection.send(FrameKind.REQUESTS, payload)

    def closed(self, reason: str) -> None:
        """The measurement is over."""


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """Echo in this process; answer each message on the pipe with the CPU time spent so far."""
    runtime.run(_serve(pipe))


def _accept(hello: Hello) -> tuple[Welcome, type[Echo]]:
    return Welcome(PROTOCOL_VERSION, "bench", NodeId(1), hlc.ZERO, None, ()), Echo


async def _serve(pipe: multiprocessing.connection.Connection) -> None:
    listener = await TcpTransport(NetConfig(), _raise).listen("127.0.0.1:0", _accept)
    pipe.send(listener.address)
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def asked() -> None:
        if pipe.recv():
            pipe.send(time.process_time())
        else:
            done.set_result(None)

    loop.add_reader(pipe.fileno(), asked)
    await done
    await listener.close()


def _raise(error: Exception) -> None:
    raise error


async def measure(
    pipe: multiprocessing.connection.Connection, address: str, seconds: float
) -> Table:
    """Run every combination for `seconds` and return the table."""
    table = Table("payload bytes", "callers", "echoes/s", "MB/s each way", "CPU us per echo")
    transport = TcpTransport(NetConfig(), _raise)
    for payload_bytes in PAYLOADS:
        for callers in CALLERS:
            made: list[Callers] = []

            def handler(connection: Connection, made: list[Callers] = made) -> Handler:
                made.append(Callers(connection))
                return made[0]

            hello = Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS)
            connection = await transport.connect(address, hello, handler)
            started, cpu = time.perf_counter(), _cpu(pipe)
            made[0].start(callers, bytes(payload_bytes))
            await asyncio.sleep(seconds)
            echoes, elapsed = made[0].echoes, time.perf_counter() - started
            cpu = _cpu(pipe) - cpu
            connection.close()
            table.add_row(
                f"{payload_bytes:,}",
                str(callers),
                f"{echoes / elapsed:,.0f}",
                f"{echoes * payload_bytes / elapsed / 1e6:,.1f}",
                f"{cpu / max(echoes, 1) * 1e6:.1f}",
            )
    return table


def _cpu(pipe: multiprocessing.connection.Connection) -> float:
    pipe.send(True)
    there: float = pipe.recv()
    return there + time.process_time()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    seconds = parser.parse_args().seconds
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    try:
        Console().print(runtime.run(measure(ours, ours.recv(), seconds)))
    finally:
        ours.send(False)
        process.join()


if __name__ == "__main__":
    main()
