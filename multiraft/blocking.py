"""The database without asyncio, under the name that applications import.

    import multiraft.blocking

    with multiraft.blocking.connect("db1:7000") as db:
        db.put(b"answer", b"42")

client/blocking.py tells how it differs from the asynchronous database.
"""

from multiraft.client.blocking import Admin, Database, Transaction, connect

__all__ = ["Admin", "Database", "Transaction", "connect"]
