"""What the transactions of one client share: the router, signs of life, work in the background."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from multiraft import config, runtime
from multiraft.client.calls import Call
from multiraft.client.router import Router
from multiraft.client.transaction import ending
from multiraft.client.transaction.attempt import Attempt
from multiraft.client.transaction.heartbeats import Heartbeats
from multiraft.client.transaction.hot_keys import HotKeys

CLOSES_WITHIN_S = 1.0
"""How long closing waits for transactions to be rolled back, and for commits to be spread."""


class TransactionsStatus(msgspec.Struct, frozen=True):
    """What the transactions of a client have done since it was opened."""

    begun: int
    refreshes: int
    """How often one moved to a later time, since nothing that it had read had changed."""
    with_locks: int
    """How many hold locks now."""
    in_background: int
    """Transactions that have ended for the application, and of which not every range knows yet."""


class Coordinator:
    """See the module. One per database."""

    def __init__(
        self, router: Router, settings: config.ClientConfig, limits: config.LimitsConfig
    ) -> None:
        self.router = router
        self.settings = settings
        self.limits = limits
        self.heartbeats = Heartbeats(router, settings.transaction_heartbeat_ms)
        self.hot_keys = HotKeys(settings.transaction_contended_ms / 1_000)
        self.refreshes = 0
        self._begun = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._calls: dict[Call, None] = {}

    def begin(
        self,
        *,
        priority: int,
        deadline_s: float,
        deadline: float,
        before: Attempt | None = None,
        is_renewable: bool = False,
    ) -> Attempt:
        """Return a new attempt; see there."""
        self._begun += 1
        return Attempt(
            self,
            priority=priority,
            deadline_s=deadline_s,
            deadline=deadline,
            before=before,
            is_renewable=is_renewable,
        )

    def status(self) -> TransactionsStatus:
        """Return what the transactions of this client have done."""
        return TransactionsStatus(
            begun=self._begun,
            refreshes=self.refreshes,
            with_locks=len(self.heartbeats),
            in_background=len(self._tasks) + len(self._calls),
        )

    def deadline(self, deadline_s: float) -> float:
        """Return until when a transaction that begins now may take, in monotonic time."""
        return self.router.now() + min(deadline_s, self.limits.transaction_s_max)

    # -- in the background -------------------------------------------------------------------------

    def background_deadline(self) -> float:
        """Return until when to try what nobody waits for."""
        return self.router.now() + self.settings.deadline_s

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it to its end, which `close` awaits."""
        task = runtime.spawn(coroutine, name="end a transaction", on_error=self._report)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def keep(self, call: Call) -> None:
        """Keep a call until it is answered; nobody minds if it is not."""
        self._calls[call] = None
        call.may_go_unheard()
        call.future.add_done_callback(lambda _: self._calls.pop(call, None))

    def _report(self, error: BaseException) -> None:
        self.router.loop.call_exception_handler(
            {"message": "the end of a transaction failed", "exception": error}
        )

    async def close(self) -> None:
        """Roll back what is under way, wait a while for the background, then give it up."""
        for attempt in self.heartbeats.attempts():
            ending.roll_back(attempt, "its client was closed")
        waiting: list[asyncio.Future[Any]] = [*self._tasks]
        waiting += [call.future for call in self._calls]
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSES_WITHIN_S)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        for call in tuple(self._calls):
            call.abandon()
        self._calls.clear()
        self.heartbeats.close()
