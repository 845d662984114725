"""Bringing to an end what transactions have left behind: old records, and locks of the dead.

Purpose
    Before a record is removed, its transaction is over and all that it wrote is resolved. And locks
    that nobody ever meets do not stay for ever.
Invariants
    - A push decides whether a transaction is dead, as for anybody who waits for one. Nobody who
      shows a sign of life is aborted, however old.
    - On return what was asked for is applied where it lies. Anything else raises, and nothing may
      be concluded then.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta, TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import (
    PushKind,
    PushTransaction,
    RecordResult,
    ResolveIntent,
)
from multiraft.mvcc.leftovers import OldIntent
from multiraft.ranges import recovery
from multiraft.ranges.recovery import Ask

RESOLVED_PER_CALL = 500
"""Keys of the greatest length fit into a batch so."""


async def resolve_writes(ask: Ask, records: Iterable[TransactionRecord]) -> None:
    """Resolve all that these records, which are final, name as written."""
    wanted = (_resolution(record, write.key) for record in records for write in record.writes)
    await _resolve(ask, wanted)


async def end_transaction(
    ask: Ask, txn: TransactionMeta, laid_at: Timestamp, issued_at: Timestamp
) -> TransactionRecord | None:
    """End a transaction that gave a sign of life at `laid_at`, unless it has given one since.

    Returns its final record, None if it lives.
    """
    push = PushTransaction(txn.anchor, txn, laid_at, issued_at, PushKind.ABORT)
    (answer,) = await ask((push,))
    assert isinstance(answer, RecordResult), "a record is asked for"
    record = answer.record
    if record is not None and record.status is TransactionStatus.STAGING and answer.has_expired:
        record = await recovery.recover(ask, record)
    return record if record is not None and record.status.is_final else None


async def resolve_intents(ask: Ask, intents: Iterable[OldIntent]) -> bool:
    """End the transactions of these intents, and resolve them; return whether none is left."""
    by_transaction: dict[bytes, list[OldIntent]] = {}
    for key, intent in intents:
        by_transaction.setdefault(intent.txn.id, []).append((key, intent))
    are_gone = True
    for laid in by_transaction.values():
        latest = max((intent for _, intent in laid), key=lambda intent: intent.laid_at)
        # When it was issued is not known, but before it laid anything.
        record = await end_transaction(ask, latest.txn, latest.laid_at, latest.laid_at)
        if record is None:
            are_gone = False
        else:
            await _resolve(ask, (_resolution(record, key) for key, _ in laid))
    return are_gone


def _resolution(record: TransactionRecord, key: bytes) -> ResolveIntent:
    committed = record.status is TransactionStatus.COMMITTED
    at = record.timestamp if committed else Timestamp(0)
    return ResolveIntent(key, record.txn.id, record.status, at)


async def _resolve(ask: Ask, wanted: Iterator[ResolveIntent]) -> None:
    while batch := tuple(islice(wanted, RESOLVED_PER_CALL)):
        await ask(batch)
