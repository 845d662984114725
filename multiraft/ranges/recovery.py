"""Deciding a transaction whose coordinator is gone after it began to commit.

Purpose
    A record that stands STAGING means: committed, if all writes that it names lie at or below its
    timestamp. Anybody may look, and write down what that comes to.
Invariants
    - A write that is found missing can never be laid at or below the staging timestamp any more:
      the range that was asked has promised so before it answered (rule A9). So both outcomes stay
      true, whoever else looks, and however late the coordinator's own writes arrive.
    - The outcome is written only to a record that still stands STAGING at the timestamp for which
      the writes were looked at. A coordinator that has staged it anew, or another recovery that was
      faster, is not disturbed.
Source
    CockroachDB's parallel commits and their status recovery; rule A9.
"""

from collections.abc import Awaitable, Callable
from itertools import islice

from multiraft.model.requests import Operation, Result
from multiraft.model.transaction import TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import (
    QueryIntent,
    QueryIntentResult,
    RecordResult,
    RecoverTransaction,
)

Ask = Callable[[tuple[Operation, ...]], Awaitable[tuple[Result, ...]]]
"""Send operations to their ranges, and return the results in order."""

WRITES_ASKED_MAX = 500
"""In one call; keys of the greatest length fit into a batch so."""


async def recover(ask: Ask, record: TransactionRecord) -> TransactionRecord | None:
    """Decide a transaction that was left STAGING, and return its record as it is then."""
    assert record.status is TransactionStatus.STAGING, "nothing else is recovered"
    txn = record.txn
    decision = RecoverTransaction(
        txn.anchor, txn.id, record.timestamp, await _all_there(ask, record), record.issued_at
    )
    (result,) = await ask((decision,))
    assert isinstance(result, RecordResult), "a record is asked for"
    return result.record


async def _all_there(ask: Ask, record: TransactionRecord) -> bool:
    """Return whether all writes are laid. One that is not, and never will be, is enough."""
    queries = (
        QueryIntent(write.key, record.txn.id, write.sequence, record.timestamp, record.issued_at)
        for write in record.writes
    )
    while batch := tuple(islice(queries, WRITES_ASKED_MAX)):
        for result in await ask(batch):
            assert isinstance(result, QueryIntentResult), "an intent is asked for"
            if not result.found:
                return False
    return True
