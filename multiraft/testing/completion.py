"""Cleaning up that goes on to its end, whoever is cancelled meanwhile.

A test that is cancelled, by a time limit or by a scope that cancels whatever it waits for, must not
leave half a cluster behind.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_the_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end; of cancellations meanwhile, the last is raised afterwards."""
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
    task.result()
    if cancelled is not None:
        raise cancelled
