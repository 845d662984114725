"""Tests on a simulated cluster, which is started, connected to, and stopped for them."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from multiraft.client.database import Database
from multiraft.config import Config
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.loop import VirtualLoop

Test = Callable[[Cluster, Database], Coroutine[Any, Any, None]]


def cluster_test(
    *, nodes: int = 3, localities: Sequence[str] = (), config: Config = FAST, seed: int = 1
) -> Callable[[Test], Callable[[], None]]:
    """Make a test of an `async def test_...(cluster, db)` on a started cluster."""

    def wrap(main: Test) -> Callable[[], None]:
        async def on_loop(loop: VirtualLoop) -> None:
            cluster = Cluster(loop, nodes=nodes, localities=localities, config=config, seed=seed)
            await cluster.start()
            async with cluster.connect() as db:
                await main(cluster, db)
            await cluster.stop()

        def test() -> None:
            virtual_loop.run(on_loop, limit_s=10_000)

        test.__doc__ = main.__doc__
        return test

    return wrap
