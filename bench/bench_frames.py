"""What one frame costs in Python, without sockets: `pytest bench/bench_frames.py`.

Each measurement handles FRAMES frames; divide by it to get the cost of one.
"""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.net import frames
from multiraft.net.transport import FrameKind

FRAMES = 100
READ_BYTES = 65_536

payload_sizes = pytest.mark.parametrize("payload_bytes", [16, 300, 4_096, 65_536])


@payload_sizes
def test_encode(benchmark: BenchmarkFixture, payload_bytes: int) -> None:
    payload = bytes(payload_bytes)

    def encode_and_join() -> bytes:
        parts: list[bytes] = []
        for _ in range(FRAMES):
            parts.append(frames.header(FrameKind.REQUESTS, payload))
            parts.append(payload)
        return b"".join(parts)

    benchmark(encode_and_join)


@payload_sizes
def test_parse_reads_that_hold_whole_frames(
    benchmark: BenchmarkFixture, payload_bytes: int
) -> None:
    stream = frames.encode(FrameKind.REQUESTS, bytes(payload_bytes)) * FRAMES
    benchmark(_parse([stream]))


@payload_sizes
def test_parse_reads_of_64_kib(benchmark: BenchmarkFixture, payload_bytes: int) -> None:
    stream = frames.encode(FrameKind.REQUESTS, bytes(payload_bytes)) * FRAMES
    reads = [stream[at : at + READ_BYTES] for at in range(0, len(stream), READ_BYTES)]
    benchmark(_parse(reads))


def _parse(reads: list[bytes]) -> Callable[[], None]:
    def run() -> None:
        parser = frames.FrameParser(1 << 20)
        count = sum(1 for read in reads for _ in parser.feed(read))
        assert count == FRAMES

    return run
