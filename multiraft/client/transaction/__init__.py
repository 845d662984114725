"""Transactions: any keys of any ranges, read and written as if at one moment.

Life of a transaction
    `Database.run` (`retries`) begins an `attempt` and calls the application's function with a
    `transaction`. Reads go to the leaseholders (`reading`), all at one time that the first of them
    chose, and are remembered (`read_spans`). Writes stay in the client (`write_buffer`), and what
    is read is shown with them on top (`scanning`). At the end, `commit` sends everything: to one
    range in one part, which is one round of consensus and leaves no lock; to several as intents
    beside a record.
    What pushes the transaction to a later time makes it ask whether anything that it has read has
    changed; if so, it runs again. `ending` rolls back, and tells the ranges what was decided;
    `heartbeats` show that those which hold locks live. What they all share is the `coordinator`'s.

Caveats
    A transaction that waits for its application holds its locks. There are no savepoints: the
    decision record 0007 says what to do instead.
"""

from multiraft.client.transaction.coordinator import Coordinator, TransactionsStatus
from multiraft.client.transaction.retries import Retries
from multiraft.client.transaction.transaction import Transaction

__all__ = ["Coordinator", "Retries", "Transaction", "TransactionsStatus"]
