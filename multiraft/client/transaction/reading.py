"""Reads of a transaction, all at one time, and how that time moves.

Purpose
    The leaseholder of the first part that reads chooses the read timestamp. When something makes a
    later one necessary, a refresh asks the ranges whether all that was read is the same there.
Invariants
    - Without a read timestamp exactly one part goes first, to one range, uncut (rule S19).
    - The time moves only forward, and only when nothing that was read has changed since.
    - A read is remembered from before it is sent: a refresh that overtakes it covers it. One that
      begins during a refresh waits.
Source
    Design §11; safety rules S13, S19.
"""

from collections.abc import Sequence

from multiraft import errors
from multiraft.client import batch
from multiraft.client.router import NO_TIMESTAMP
from multiraft.client.transaction.attempt import Attempt
from multiraft.ids import Timestamp
from multiraft.model.requests import (
    BatchReply,
    Get,
    GetResult,
    Operation,
    Result,
    Scan,
    ScanResult,
)
from multiraft.model.transaction_requests import Refresh, RefreshResult


async def get(attempt: Attempt, key: bytes, *, for_update: bool) -> bytes | None:
    """Return what the key holds for others; locked, if wanted or if it is contended."""
    is_locking = for_update or attempt.is_contended(key)
    (result,) = await read(attempt, (Get(key),), is_locking=is_locking)
    assert isinstance(result, GetResult), "a Get is answered by its result"
    return result.value


async def get_many(
    attempt: Attempt, wanted: Sequence[bytes], *, for_update: bool
) -> dict[bytes, bytes | None]:
    """Like `get`, for several keys."""
    found: dict[bytes, bytes | None] = {}
    # Told apart at once: which keys others want may change while some are awaited.
    locked = {key: None for key in wanted if for_update or attempt.is_contended(key)}
    others = [key for key in wanted if key not in locked]
    for is_locking, some in ((True, list(locked)), (False, others)):
        if some:
            results = await read(attempt, tuple(map(Get, some)), is_locking=is_locking)
            for key, result in zip(some, results, strict=True):
                assert isinstance(result, GetResult), "a Get is answered by its result"
                found[key] = result.value
    return found


async def scan(attempt: Attempt, page: Scan, *, for_update: bool) -> ScanResult:
    """Return a page of what others see in a span; its keys locked, if wanted."""
    (result,) = await read(attempt, (page,), is_locking=for_update)
    assert isinstance(result, ScanResult), "a scan is answered by its result"
    if for_update:
        attempt.set_locked(result.rows[::2])
    return result


async def read(
    attempt: Attempt, operations: tuple[Operation, ...], *, is_locking: bool = False
) -> Sequence[Result]:
    """Read at the transaction's time, which this may choose or move."""
    attempt.check()
    attempt.operations_open += 1
    try:
        while True:
            used = attempt.id
            try:
                return await _read(attempt, operations, is_locking=is_locking)
            except errors.TransactionAbortedError as error:
                attempt.check()  # What has been rolled back must not lock anything anew.
                if not attempt.is_renewable:
                    raise attempt.fail(error) from error
                attempt.renew(used)
            except (errors.DeadlineExceededError, errors.OutcomeUnknownError) as error:
                raise attempt.fail(error) from error
    finally:
        attempt.operations_open -= 1


async def _read(
    attempt: Attempt, operations: tuple[Operation, ...], *, is_locking: bool
) -> Sequence[Result]:
    if is_locking:
        attempt.about_to_lock(operations)
    reads, moving = attempt.reads, attempt.moving
    while True:
        if moving.locked() or not attempt.read_timestamp:
            async with moving:
                if not attempt.read_timestamp:
                    first = await _choose_time(attempt, operations, is_locking=is_locking)
                    break
            attempt.check()
        token = reads.begin(operations)
        try:
            context = attempt.reading(is_locking=is_locking)
            reply = await attempt.ask(operations, context, attempt.read_timestamp)
        except errors.ReadUncertainError as error:
            uncertain = error.timestamp
        else:
            remember(attempt, operations, reply)
            return reply.results
        finally:
            reads.end(token)
        await move_to(attempt, Timestamp(uncertain))
    if len(first) < len(operations):
        attempt.check()
        others = [place for place in range(len(operations)) if place not in first]
        rest = tuple(operations[place] for place in others)
        results = await _read(attempt, rest, is_locking=is_locking)
        first.update(zip(others, results, strict=True))
    return [first[place] for place in range(len(operations))]


async def _choose_time(
    attempt: Attempt, operations: tuple[Operation, ...], *, is_locking: bool
) -> dict[int, Result]:
    """Read what lies in the first one's range, and go on at the time that it was read at.

    Return the results by their places. The lock is held: nobody else reads meanwhile.
    """
    while True:
        places = attempt.coordinator.router.together(operations)
        part = tuple(operations[place] for place in places)
        try:
            context = attempt.reading(is_locking=is_locking)
            reply = await attempt.ask(part, context, NO_TIMESTAMP, is_whole=True)
        except (errors.RangeMismatchError, errors.ReadUncertainError):
            continue  # Now the cache knows better; or a later time will be chosen.
        attempt.set_read_time(reply.timestamp, reply.uncertainty_limit)
        remember(attempt, part, reply)
        return dict(zip(places, reply.results, strict=True))


async def move_to(attempt: Attempt, timestamp: Timestamp) -> None:
    """Go on at `timestamp`, if nothing that was read has changed since.

    Raises TransactionRetryError otherwise: the attempt has failed.
    """
    async with attempt.moving:
        if attempt.failure is not None:
            raise attempt.failure
        if timestamp <= attempt.read_timestamp:
            return
        conflict = await _refresh(attempt, timestamp)
        if conflict is not None:
            raise attempt.lost(conflict)
        attempt.read_timestamp = timestamp
        attempt.coordinator.refreshes += 1


async def _refresh(attempt: Attempt, timestamp: Timestamp) -> bytes | None:
    """Ask whether everything read is the same at `timestamp`; return a key that is not."""
    since = attempt.read_timestamp
    coordinator = attempt.coordinator
    most = coordinator.settings.transaction_call_keys_max
    waiting = attempt.reads.refreshes(since)
    while waiting:
        pieces = list(batch.cut(waiting, most, coordinator.limits.batch_bytes_max))
        waiting = []
        for piece in pieces:
            reply = await attempt.ask(piece, attempt.reading(), timestamp)
            for asked, result in zip(piece, reply.results, strict=True):
                assert isinstance(asked, Refresh), "refreshes are asked for"
                assert isinstance(result, RefreshResult), "a refresh is answered by its result"
                if not result.succeeded:
                    return result.conflict
                if result.resume:
                    waiting.append(Refresh(result.resume, asked.end, since))
    return None


def remember(attempt: Attempt, operations: Sequence[Operation], reply: BatchReply) -> None:
    """Note what was read, as far as it was: from now on it must not change unnoticed."""
    for operation, result in zip(operations, reply.results, strict=True):
        if isinstance(operation, Get):
            attempt.reads.add(operation.key)
        elif isinstance(operation, Scan) and isinstance(result, ScanResult):
            start, end, resume = operation.start, operation.end, result.resume
            if resume is not None:
                start, end = (resume, end) if operation.reverse else (start, resume)
            attempt.reads.add_span(start, end)
