"""A page of a scan that was asked for before the application wants it.

Invariants
    - It counts as read only when it is taken: that others change what nobody has looked at fails no
      refresh. Its range takes it for read all the same, so their writes come above its time.
    - It is taken only if it was read at the time, and under the ID, that the transaction has then;
      a refresh under way does not know of it. Otherwise it is as if it had never been asked for,
      and so it is with an error: who asks again finds out what to do about it.
"""

from multiraft import errors
from multiraft.client.transaction import reading
from multiraft.client.transaction.attempt import Attempt
from multiraft.model.requests import Scan, ScanResult


class PageAhead:
    """See the module."""

    __slots__ = ("_attempt", "_call", "_id", "_page", "_read_timestamp")

    def __init__(self, attempt: Attempt, page: Scan) -> None:
        self._attempt = attempt
        self._page = page
        self._id = attempt.id
        self._read_timestamp = attempt.read_timestamp
        self._call = attempt.start((page,), attempt.reading(), attempt.read_timestamp)
        self._call.may_go_unheard()

    async def take(self) -> ScanResult | None:
        """Wait for it, and note it as read; None if it has to be asked for anew."""
        attempt = self._attempt
        attempt.check()
        attempt.operations_open += 1
        try:
            reply = await self._call.future
        except errors.MultiraftError:
            return None
        finally:
            attempt.operations_open -= 1
            self._call.abandon()
        is_as_it_was = attempt.id == self._id and attempt.read_timestamp == self._read_timestamp
        if not is_as_it_was or attempt.moving.locked():
            return None
        reading.remember(attempt, (self._page,), reply)
        result = reply.results[0]
        assert isinstance(result, ScanResult), "a scan is answered by its result"
        return result

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._call.abandon()


def ask(attempt: Attempt, page: Scan) -> PageAhead | None:
    """Ask for a page that will be wanted, unless now is not the time for it."""
    if (
        not attempt.coordinator.settings.scan_prefetch
        or attempt.holds_something
        or attempt.moving.locked()
    ):
        return None
    return PageAhead(attempt, page)
