"""Prints how long a commit over two ranges takes, beside a put, on a durable cluster of its own.

    python bench/commit_latency.py [--rounds N]

Each round makes one put and one commit, with a pause before each, so that neither waits for what
the other has left to do in the background.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

import multiraft
from multiraft.cli import cluster_process
from multiraft.client.database import Database

VALUE = bytes(256)
PAUSE_S = 0.006
WARM_UP = 200


async def put_once(db: Database, number: int) -> float:
    began = time.perf_counter()
    await db.put(b"p%d" % (number % 100), VALUE)
    return time.perf_counter() - began


async def commit_once(db: Database, number: int) -> float:
    async with db.transaction() as txn:
        await txn.put(b"a%d" % (number % 100), VALUE)
        await txn.put(b"z%d" % (number % 100), VALUE)
        began = time.perf_counter()
    return time.perf_counter() - began


async def measure(rounds: int) -> tuple[list[float], list[float]]:
    puts: list[float] = []
    commits: list[float] = []
    async with (
        cluster_process.temporary(None) as cluster,
        multiraft.connect(*cluster.addresses) as db,
    ):
        await db.admin.split(b"m")
        for number in range(WARM_UP + rounds):
            puts.append(await put_once(db, number))
            await asyncio.sleep(PAUSE_S)
            commits.append(await commit_once(db, number))
            await asyncio.sleep(PAUSE_S)
    return puts[WARM_UP:], commits[WARM_UP:]


def percentile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)] * 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000)
    puts, commits = asyncio.run(measure(parser.parse_args().rounds))
    for name, seconds in (("a put", puts), ("a commit over two ranges", commits)):
        p50, p90, p99 = (percentile(seconds, share) for share in (0.5, 0.9, 0.99))
        print(f"{name:26} p50 {p50:.2f} ms   p90 {p90:.2f} ms   p99 {p99:.2f} ms")
    print(f"{'ratio of the medians':26} {percentile(commits, 0.5) / percentile(puts, 0.5):.2f}")


if __name__ == "__main__":
    main()
