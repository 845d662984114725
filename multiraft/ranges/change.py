"""One administrative command with latches of its own, from taking them to its fate."""

import asyncio

from multiraft import errors
from multiraft.concurrency.latches import Latch
from multiraft.raft.messages import Configuration
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command


class LatchedChange:
    """See the module. Used for one command.

    The latch is released when the command is applied or its term is lost, whoever still waits.
    """

    __slots__ = ("_fate", "_holder", "_latch")

    def __init__(self, holder: Leaseholder, latch: Latch) -> None:
        self._holder = holder
        self._latch = latch
        self._fate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def acquire(self) -> None:
        """Take the latch, waiting for what is in its way. If cancelled, it is not taken."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if not granted.done():
                granted.set_result(None)

        if self._holder.latches.acquire(self._latch, grant):
            return
        try:
            await granted
        except asyncio.CancelledError:
            self._holder.latches.cancel(self._latch)
            raise

    def give_back(self) -> None:
        """Release the latch without proposing anything."""
        self._holder.latches.release(self._latch)

    async def carry_out(self, command: Command, configuration: Configuration | None = None) -> None:
        """Propose `command` and return once it is applied.

        With `configuration`, the one that the command brings into force. Raises
        NotLeaseholderError if the term is lost first, ConflictingChangeError if the core refuses.
        """
        if not self._holder.propose(command, self, configuration):
            self.give_back()
            raise self._holder.lost()
        await asyncio.shield(self._fate)

    def applied(self) -> None:
        """The command is applied here."""
        self._holder.latches.release(self._latch)
        if not self._fate.done():
            self._fate.set_result(None)

    def failed(self, error: errors.MultiraftError) -> None:
        """The term is lost."""
        self._holder.latches.release(self._latch)
        if not self._fate.done():
            self._fate.set_exception(error)
            self._fate.exception()  # Whoever waited may be gone; that is no news for the loop.
