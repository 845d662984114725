"""Keeping a time readable for as long as somebody reads at it.

Purpose
    A `Keeper` has the cluster protect a time from garbage collection, renews that, and lets it go
    at the end. Reads that last use one by themselves, so that none fails for lasting long.
Invariants
    - Correctness does not depend on it: a read of what may be gone is refused by the range.
    - A client that vanishes leaves a protection that expires by itself.
    - What begins and ends within `protect_after_s` costs no request.
"""

import asyncio
from types import TracebackType

from multiraft import errors, runtime
from multiraft.client import arguments, batch
from multiraft.client.router import Router
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import AdminProtect, ProtectResult

RENEWALS = 3
"""So often is a protection renewed before it would expire."""


class Keeper:
    """See the module. `async with` protects at once; `begin_later` once it lasts. Used once."""

    __slots__ = ("_id", "_is_asked", "_owner", "_router", "_task", "_timer", "timestamp")

    def __init__(self, router: Router, timestamp: Timestamp, owner: str) -> None:
        arguments.check_text("owner", owner)
        arguments.check_timestamp("timestamp", timestamp)
        self._router = router
        self._id = router.rng.unique_id()
        self._owner = owner
        self._is_asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.timestamp = timestamp

    async def __aenter__(self) -> "Keeper":
        """Protect the time; on return it is. Raises ReadTooOldError if it may be gone already."""
        await self._ask()
        self._renew_from_now_on()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let it go."""
        self.end()

    def begin_later(self) -> None:
        """Protect the time, as far as possible, if it is still read at after a while."""
        delay_s = self._router.settings.protect_after_s
        self._timer = self._router.loop.call_later(delay_s, self._renew_from_now_on)

    def end(self) -> None:
        """Protect it no longer; also from within a callback, and more than once."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._timer = self._task = None
        if self._is_asked:
            self._is_asked = False
            try:
                call = self._router.start((self._request(0.0),), anchor=keys.PROTECTION_PREFIX)
            except errors.StoppedError:
                return  # It expires.
            call.may_go_unheard()

    def _renew_from_now_on(self) -> None:
        self._timer = None
        self._task = runtime.spawn(
            self._renew(), name="protect a time", on_error=_report_unexpected
        )

    async def _renew(self) -> None:
        every_s = self._router.settings.protection_s / RENEWALS
        if self._is_asked:
            await asyncio.sleep(every_s)
        while True:
            try:
                await self._ask()
                pause_s = every_s
            except (errors.RequestError, errors.StoppedError):
                return  # It may be gone: the reads that need it will say so.
            except errors.MultiraftError:
                pause_s = every_s / RENEWALS
            await asyncio.sleep(pause_s)

    async def _ask(self) -> None:
        self._is_asked = True
        reply = await self._router.execute(
            (self._request(self._router.settings.protection_s),), anchor=keys.PROTECTION_PREFIX
        )
        if not isinstance(reply.results[0], ProtectResult):
            raise batch.unexpected(reply.results[0])

    def _request(self, duration_s: float) -> AdminProtect:
        return AdminProtect(self._id, self.timestamp, int(duration_s * 1_000), self._owner)


def _report_unexpected(error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "protecting a time failed", "exception": error}
    )
