"""Runs a function until a transaction of it commits.

Purpose
    The application writes down what is to happen; that others get in the way is dealt with here.
    Each attempt has a new ID, and keeps the age of the first: of two that cannot both go on, the
    older one does, so nobody is put off for ever.
Invariants
    - The function runs again only when the attempt before has come to a definite end without a
      commit (rule S9).
    - From the second attempt on, what the one before wrote, or locked, is locked when it is read:
      those who want the same keys queue up instead of disturbing each other.
    - What the application's own code raises ends it all, and is raised as it is.
"""

import asyncio

from multiraft import errors
from multiraft.client import arguments
from multiraft.client.batch import Builder
from multiraft.client.transaction import commit, ending
from multiraft.client.transaction.attempt import Attempt
from multiraft.client.transaction.coordinator import Coordinator
from multiraft.client.transaction.transaction import Transaction

CHAIN_MAX = 16
"""How far to look for the reason of an exception."""


class Retries:
    """See the module. For one call of `run`: `begin`, and after a failure `prepare`, again."""

    __slots__ = (
        "_attempt",
        "_builder",
        "_coordinator",
        "_deadline",
        "_deadline_s",
        "_priority",
        "failures",
    )

    def __init__(
        self,
        coordinator: Coordinator,
        builder: Builder,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._builder = builder
        arguments.check_int64("priority", priority)
        if deadline_s is None:
            deadline_s = coordinator.settings.deadline_s
        else:
            arguments.check_deadline(deadline_s)
        self._priority = priority
        self._deadline_s = deadline_s
        self._deadline = coordinator.deadline(deadline_s)
        self._attempt: Attempt | None = None
        self.failures = 0
        """How many attempts have failed."""

    def begin(self, *, is_renewable: bool = False) -> Transaction:
        """Return the transaction of the next attempt.

        With `is_renewable` there will be no other: it goes on by itself when it was aborted.
        """
        self._attempt = self._coordinator.begin(
            priority=self._priority,
            deadline_s=self._deadline_s,
            deadline=self._deadline,
            before=self._attempt,
            is_renewable=is_renewable,
        )
        return Transaction(self._attempt, self._builder)

    async def finish(self) -> None:
        """Commit, unless the function has ended the transaction itself.

        A failure that the function has kept to itself is raised here: nothing was committed.
        """
        attempt = self._attempt
        assert attempt is not None, "an attempt was made"
        if not attempt.has_ended:
            await commit.commit(attempt)
        elif attempt.failure is not None:
            raise attempt.failure

    async def prepare(self, error: Exception) -> None:
        """Return when the function may run again; raise `error` if it must not."""
        attempt = self._attempt
        assert attempt is not None, "an attempt was made"
        ending.roll_back(attempt, f"{type(error).__name__} ended it")
        if not isinstance(attempt.failure, errors.TransactionRetryError) or not _caused_by(
            error, attempt.failure
        ):
            raise error
        router = self._coordinator.router
        pause_s = self._pause_s()
        self.failures += 1
        if router.now() + pause_s >= self._deadline:
            late = errors.DeadlineExceededError(
                deadline_s=self._deadline_s, last_error=attempt.failure.message
            )
            raise attempt.late(late) from error
        await asyncio.sleep(pause_s)

    def _pause_s(self) -> float:
        """Return how long to wait: not at first, since the next attempt queues up for its keys."""
        if not self.failures:
            return 0.0
        settings = self._coordinator.settings
        most_ms = min(settings.backoff_ms_max, settings.backoff_ms_min << min(self.failures, 20))
        return self._coordinator.router.rng.below(1_000 * most_ms) / 1e6


def _caused_by(error: BaseException, reason: BaseException) -> bool:
    """Return whether `error` is `reason`, or was raised because of it."""
    following: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if following is None or following is reason:
            break
        following = following.__cause__ or following.__context__
    return following is reason
