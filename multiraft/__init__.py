"""multiraft: a range-sharded, serializable, replicated key-value database.

    import multiraft

    async with multiraft.connect("127.0.0.1:7000") as db:
        await db.put(b"answer", b"42")
        await db.run(transfer)  # async def transfer(txn): any keys, all of it or nothing

`multiraft.blocking` is the same without asyncio; `multiraft.errors` holds every exception.
"""

from multiraft import blocking, errors
from multiraft.client.batch import ANY, Batch
from multiraft.client.database import Database, connect
from multiraft.client.transaction import Transaction

__all__ = ["ANY", "Batch", "Database", "Transaction", "blocking", "connect", "errors"]
