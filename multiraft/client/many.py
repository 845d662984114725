"""Any number of operations on single keys, in requests of a sensible size."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from multiraft import config, errors
from multiraft.client import batch
from multiraft.client.batch import Answer
from multiraft.model.requests import Get, Operation

PART_OPERATIONS = 256
"""What is given is cut into requests of about this size ..."""

PART_BYTES = config.MIB

PARTS_CONCURRENT_MAX = 8
"""... of which so many are under way at a time."""


async def in_parts(
    operations: Sequence[Operation],
    carry_out: Callable[[tuple[Operation, ...]], Awaitable[None]],
) -> None:
    """Carry the operations out in requests of a sensible size, a few at a time."""
    waiting = batch.cut(operations, PART_OPERATIONS, PART_BYTES)

    async def work() -> None:
        for part in waiting:
            await carry_out(part)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(PARTS_CONCURRENT_MAX):
                group.create_task(work())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # The rest was cancelled because of it.


async def get_many(
    execute: Callable[[tuple[Operation, ...]], Awaitable[list[Answer]]], wanted: Sequence[Get]
) -> dict[bytes, bytes | None]:
    """Return the value of each key as the application knows it, None for those that are absent."""
    found: dict[bytes, bytes | None] = {}

    async def read(operations: tuple[Operation, ...]) -> None:
        try:
            values = await execute(operations)
        except errors.BatchTooLargeError:
            if len(operations) == 1:
                raise
            middle = len(operations) // 2
            await read(operations[:middle])
            await read(operations[middle:])
            return
        for operation, value in zip(operations, values, strict=True):
            assert isinstance(operation, Get), "only reads are sent here"
            assert value is None or isinstance(value, bytes), "a Get gives bytes or None"
            found[operation.key[1:]] = value

    await in_parts(wanted, read)
    return found
