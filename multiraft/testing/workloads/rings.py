"""The rings of cycle.py in any ranges, turned round by transactions.

Purpose
    A swap reads three links and writes three keys, which may lie in as many ranges; a look reads
    all of them. No condition is checked but by the transaction.
Source
    FoundationDB's Cycle workload.
"""

from collections.abc import Sequence

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.history import History
from multiraft.testing.workloads import values
from multiraft.testing.workloads.cycle import CycleWorkload, Links
from multiraft.testing.workloads.workload import FINAL


class RingsWorkload(CycleWorkload, frozen=True, kw_only=True, tag="rings"):
    """See the module."""

    async def _swap(self, db: Database, keys: Sequence[bytes], first: int) -> None:
        """Turn a -> b -> c -> d into a -> c -> b -> d, where a is the first."""

        async def swap(txn: Transaction) -> None:
            links = [first]
            for _ in range(3):
                following = values.decode(await txn.get(keys[links[-1]]))
                assert following is not None, "no key of a ring is ever removed"
                links.append(following)
            a, b, c, d = links
            for place, new in ((a, c), (b, d), (c, b)):
                await txn.put(keys[place], values.encode(new))

        await db.run(swap)

    async def _read(self, db: Database, ring: str) -> Links:
        keys = self._keys(ring)

        async def read(txn: Transaction) -> Links:
            found = await txn.get_many(keys)
            return tuple((n, values.decode(found[key])) for n, key in enumerate(keys))

        return await db.run(read)

    async def finish(self, db: Database, history: History) -> None:
        """Read every ring."""
        for ring in self._rings:
            await history.record(FINAL, "read", ring, None, self._read(db, ring))
