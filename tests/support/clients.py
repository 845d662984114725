"""What tests of the client share: a cluster, a database on it, and randomness that repeats."""

from collections.abc import Awaitable, Callable

import msgspec

import multiraft
from multiraft import config
from multiraft.client.database import Database
from multiraft.client.router import Router
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from tests.support.fake_cluster import FakeCluster, FakeTransport, address_of


class Bench:
    """A cluster and a database that is connected to it, on a virtual loop."""

    def __init__(self, loop: VirtualLoop, cluster: FakeCluster, db: Database) -> None:
        self.loop = loop
        self.cluster = cluster
        self.db = db

    @property
    def router(self) -> Router:
        """The router of the database."""
        return self.db._router

    def is_quiet(self) -> bool:
        """Whether the client has nothing under way: no calls, no pursuits."""
        status = self.db.status()
        return status.calls_pending == 0 and status.parts_pursued == 0


def run(
    main: Callable[[Bench], Awaitable[None]],
    *,
    splits: tuple[bytes, ...] = (b"h", b"p"),
    nodes: int = 3,
    seed: int = 1,
    deadline_s: float = 10.0,
    limits: config.LimitsConfig | None = None,
    scan_prefetch: bool = True,
    backoff_ms_min: int = 5,
) -> None:
    """Run `main` with a database connected to a cluster with ranges [, h), [h, p), [p, )."""
    settings = config.Config(
        client=config.ClientConfig(
            deadline_s=deadline_s,
            scan_prefetch=scan_prefetch,
            backoff_ms_min=backoff_ms_min,
            backoff_ms_max=max(500, backoff_ms_min),
        )
    )
    if limits is not None:
        settings = msgspec.structs.replace(settings, limits=limits)

    async def with_database(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        cluster = FakeCluster(clock, nodes=nodes, splits=splits)
        async with multiraft.connect(
            *(address_of(node_id) for node_id in cluster.node_ids),
            settings=settings,
            transport=FakeTransport(cluster),
            clock=clock,
            rng=SeededRng(seed),
        ) as db:
            await main(Bench(loop, cluster, db))

    virtual_loop.run(with_database)
