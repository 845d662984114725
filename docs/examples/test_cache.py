"""A cache in front of the database, judged by what its users saw: `cd docs/examples; pytest`."""

import asyncio

import pytest

import multiraft
from multiraft.testing import Cluster, History, checkers, simulated


class Cache:
    """Remembers what it read, and forgets it when it writes; but others write, too."""

    def __init__(self, db: multiraft.Database) -> None:
        self._db = db
        self._known: dict[bytes, bytes | None] = {}

    async def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`."""
        if key not in self._known:
            self._known[key] = await self._db.get(key)
        return self._known[key]

    async def put(self, key: bytes, value: bytes) -> None:
        """Set `key`."""
        await self._db.put(key, value)
        self._known.pop(key, None)


@pytest.mark.parametrize("kind", [Cache, lambda db: db], ids=["cached", "direct"])
@simulated(seeds=5)
async def test_everybody_sees_what_was_written(cluster: Cluster, kind: type[Cache]) -> None:
    """Three clients read and write one key while its leader crashes."""
    history = History(asyncio.get_running_loop().time)

    async def client(name: str) -> None:
        async with cluster.connect(name=name) as db:
            store = kind(db)
            for number in range(10):
                value = f"{name} {number}".encode()
                await history.record(name, "put", b"k", value, store.put(b"k", value))
                for _ in range(2):
                    await asyncio.sleep(cluster.random.random())
                    await history.record(name, "get", b"k", None, store.get(b"k"))

    async with asyncio.TaskGroup() as group:
        for name in ("ann", "bob", "cem"):
            group.create_task(client(name))
        await asyncio.sleep(2.0)
        await cluster.crash(cluster.leader() or 1)
    verdict = checkers.MODELS["register"](history)
    if not verdict.ok:
        pytest.fail(str(verdict))
