"""The cluster for tests without asyncio: the same, on an event loop in a thread of its own.

    with multiraft.testing.BlockingCluster(nodes=3) as cluster, cluster.connect() as db:
        db.put(b"answer", b"42")

Purpose
    A thin shell. What the methods do and raise is told in cluster.py.
Invariants
    - Any thread may call any method. All of the cluster, its clients included, runs in one thread.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from multiraft.client import blocking
from multiraft.config import Config
from multiraft.testing.cluster import SETTINGS, Cluster
from multiraft.testing.cluster_status import ClusterStatus, MisuseError

T = TypeVar("T")


class BlockingCluster:
    """See the module; the arguments are those of `Cluster`. A cluster starts with `with`, once."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        seed: int = 1,
        config: Config = SETTINGS,
        localities: Sequence[str] = (),
    ) -> None:
        self._inner = Cluster(nodes, seed=seed, config=config, localities=localities)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.random = self._inner.random
        """As Cluster.random."""

    def __enter__(self) -> "BlockingCluster":
        if self._loop is not None:
            raise MisuseError("this cluster was started before; make another one")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="test cluster")
        self._thread.start()
        try:
            self._wait(self._inner.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._inner.__aexit__(kind, error, traceback))
        finally:
            self._end()

    @property
    def nodes(self) -> tuple[int, ...]:
        """As Cluster.nodes."""
        return self._inner.nodes

    @property
    def addresses(self) -> tuple[str, ...]:
        """As Cluster.addresses."""
        return self._inner.addresses

    def leader(self, key: bytes = b"") -> int | None:
        """As Cluster.leader."""
        return self._call(lambda: self._inner.leader(key))

    def status(self) -> ClusterStatus:
        """As Cluster.status."""
        return self._call(self._inner.status)

    def until_served(self, *, within_s: float = 30.0) -> None:
        """As Cluster.until_served."""
        self._wait(self._inner.until_served(within_s=within_s))

    def connect(self, *, name: str = "client", **settings: Any) -> blocking.Database:  # noqa: ANN401
        """Return a `multiraft.blocking` database, to be used with `with`; see Cluster.connect."""
        database = self._call(lambda: self._inner.connect(name=name, **settings))
        return blocking.Database(database, loop=self._loop)

    def crash(self, node: int) -> None:
        """As Cluster.crash."""
        self._wait(self._inner.crash(node))

    def restart(self, node: int) -> None:
        """As Cluster.restart."""
        self._wait(self._inner.restart(node))

    def pause(self, node: int) -> None:
        """As Cluster.pause."""
        self._call(lambda: self._inner.pause(node))

    def resume(self, node: int) -> None:
        """As Cluster.resume."""
        self._call(lambda: self._inner.resume(node))

    def skew(self, node: int, seconds: float) -> None:
        """As Cluster.skew."""
        self._call(lambda: self._inner.skew(node, seconds))

    def partition(self, *groups: Iterable[int | str]) -> None:
        """As Cluster.partition."""
        self._call(lambda: self._inner.partition(*groups))

    def heal(self) -> None:
        """As Cluster.heal."""
        self._call(self._inner.heal)

    def slow_down(self, *, link_s: float = 0.0, sync_s: float = 0.0) -> None:
        """As Cluster.slow_down."""
        self._call(lambda: self._inner.slow_down(link_s=link_s, sync_s=sync_s))

    def split(self, key: bytes) -> None:
        """As Cluster.split."""
        self._wait(self._inner.split(key))

    def transfer(self, key: bytes, node: int) -> None:
        """As Cluster.transfer."""
        self._wait(self._inner.transfer(key, node))

    def _call(self, function: Callable[[], T]) -> T:
        """Call a function in the cluster's thread and return what it returns."""

        async def call() -> T:
            return function()

        return self._wait(call())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the cluster's thread and return what it returns."""
        loop = self._loop
        if loop is None or loop.is_closed():
            coroutine.close()
            raise MisuseError("the cluster does not run: use it with `with`")
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    def _end(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
