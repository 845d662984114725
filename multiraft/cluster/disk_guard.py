"""Watches the free space of this node's disk, and lets others lead before it runs out.

Purpose
    Below the reserve, client writes are refused with an error that says so; what Raft, compaction
    and the operator need to free space again still fits. Before that the ranges led here are handed
    to other nodes: when they have space, no client notices anything.
Invariants
    - Writes are refused at once below half the reserve, whatever becomes of the hand-over.
    - While the disk stays full, what leads here is handed over again and again, at intervals that
      grow: another node may have space, or all may be full and hand over in a circle.
"""

import asyncio

from multiraft import errors
from multiraft.ranges.store import Store

INTERVAL_S = 1.0
HAND_OVER_S = 3.0
PAUSE_S_MIN = 5.0
PAUSE_S_MAX = 320.0


class DiskGuard:
    """Runs for the life of a store; see the module. Call `look` before the store serves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pause_s = PAUSE_S_MIN
        self._next_at = 0.0

    async def run(self) -> None:
        """Look at the disk again and again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self.look():
                await self._hand_over()
                self._refuse_writes()

    def look(self) -> bool:
        """Refuse writes, or allow them again, where that is clear; return whether space is low."""
        context = self._store.context
        free = context.engine.free_bytes()
        reserve = context.config.storage.free_reserve_bytes
        if free >= reserve:
            self._pause_s = PAUSE_S_MIN
            self._next_at = 0.0
            context.write_refusal = None
        elif free < reserve // 2:
            self._refuse_writes()
        return free < reserve

    def _refuse_writes(self) -> None:
        context = self._store.context
        context.write_refusal = errors.DiskFullError(
            path=f"the disk of n{context.node_id}",
            free_bytes=context.engine.free_bytes(),
            reserve_bytes=context.config.storage.free_reserve_bytes,
        )

    async def _hand_over(self) -> None:
        now = self._store.context.clock.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._pause_s
        self._pause_s = min(PAUSE_S_MAX, self._pause_s * 2)
        await self._store.hand_over_all(HAND_OVER_S)
