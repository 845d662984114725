"""What every workload is, and what it gets for each of its clients.

Purpose
    A `Workload` says what clients ask of a database while it is hurt, and judges what they were
    told. Its fields are its settings, its tag is its name; who runs it hands everything else in.
Invariants
    - Every call is noted in the history of the workload, and nothing is judged but that.
    - Randomness is only the `rng` that is handed in, time only that of the running loop.
    - Errors that faults explain are swallowed when noted. Any other ends the client: a finding.
"""

import random
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec

from multiraft import errors
from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict
from multiraft.testing.history import History

T = TypeVar("T")

EXPLAINED = (
    errors.ConditionFailedError,
    errors.DeadlineExceededError,
    errors.OutcomeUnknownError,
    errors.DiskFullError,
    errors.ReadTooOldError,
)
"""What a call may end with while the cluster is hurt."""


class ClientRun:
    """One client of a workload while it runs."""

    __slots__ = ("_think_s", "db", "history", "is_over", "number", "rng")

    def __init__(
        self,
        db: Database,
        rng: random.Random,
        number: int,
        history: History,
        *,
        is_over: Callable[[], bool],
        think_s: float,
    ) -> None:
        self.db = db
        self.rng = rng
        self.number = number
        """No other client of the run has it."""
        self.history = history
        """That of the workload, shared by its clients."""
        self.is_over = is_over
        """Whether the client should return."""
        self._think_s = think_s

    async def pause(self) -> None:
        """Wait as long as somebody thinks before the next call."""
        await sleep(self.rng.expovariate(1 / self._think_s))

    async def stay(self, seconds: float) -> None:
        """Wait for exactly so long."""
        await sleep(seconds)

    async def ask(
        self,
        function: str,
        key: object,
        argument: object,
        call: Awaitable[T],
        *,
        result_of: Callable[[T], object] | None = None,
    ) -> bool:
        """Note a call as `History.record` does; return whether it was answered, and well."""
        try:
            await self.history.record(
                self.number, function, key, argument, call, result_of=result_of
            )
        except EXPLAINED:
            return False
        return True


class Workload(
    msgspec.Struct, frozen=True, tag_field="kind", kw_only=True, forbid_unknown_fields=True
):
    """See the module. The order of calls: `set_up`, `client` for each, `finish`, `check`."""

    clients: Annotated[int, msgspec.Meta(ge=1)] = 4
    think_s: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """How long a client waits between two calls, on average."""
    space: str = ""
    """What all its keys begin with: its name, unless two of a kind run together."""

    @property
    def name(self) -> str:
        """Its kind, as specs write it."""
        return str(type(self).__struct_config__.tag)

    def key(self, *parts: object) -> str:
        """Return one of its keys, as the history names it; `encode` it for the database."""
        return "/".join((self.space or self.name, *map(str, parts)))

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Prepare the database, while nothing is hurt yet."""

    async def client(self, c: ClientRun) -> None:
        """Do what one client does, until `c.is_over()`."""
        raise NotImplementedError

    async def finish(self, db: Database, history: History) -> None:
        """Look once more at everything: nothing is hurt any more, no client runs."""

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Judge what the clients, and `finish`, were told."""
        raise NotImplementedError


FINAL = "final"
"""The process that looks at everything at the end."""
