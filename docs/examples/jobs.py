"""A job queue on multiraft: every job is to be done, and to be paid for once.

A worker claims a job for a while. If it dies, its claim runs out and another worker takes the job.
`Queue` has a bug that no quiet day shows; `SafeQueue` has not.
"""

import asyncio
from dataclasses import dataclass

import multiraft
from multiraft.errors import ConditionFailedError, DeadlineExceededError, OutcomeUnknownError

JOBS = b"jobs/"
WAITING, DONE = b"waiting", b"done"
CLAIM_S = 1.0


@dataclass(frozen=True)
class Claim:
    """A job that one worker may work on, and the record that says so."""

    key: bytes
    record: bytes


class Queue:
    """Jobs and their records: `waiting`, `claimed WORKER UNTIL` or `done`."""

    def __init__(self, db: multiraft.Database) -> None:
        self._db = db

    async def add(self, job: str) -> None:
        """Add a job that somebody is to do."""
        await self._db.put(JOBS + job.encode(), WAITING, expected=None)

    async def claim(self, worker: str) -> Claim | None:
        """Claim a job that nobody works on, or return None."""
        now = asyncio.get_running_loop().time()
        async for key, record in self._db.scan(prefix=JOBS):
            if record == DONE or (record != WAITING and float(record.split()[-1]) > now):
                continue
            mine = f"claimed {worker} {now + CLAIM_S}".encode()
            try:
                await self._db.put(key, mine, expected=record)
            except ConditionFailedError:
                continue  # Another worker was faster.
            return Claim(key, mine)
        return None

    async def finish(self, claim: Claim) -> bool:
        """Note that the job is done, and return whether it is ours to be paid for."""
        await self._db.put(claim.key, DONE)
        return True

    async def is_empty(self) -> bool:
        """Return whether every job is done."""
        return all([record == DONE async for _, record in self._db.scan(prefix=JOBS)])


class SafeQueue(Queue):
    """The same, with the check and the act in one step."""

    async def finish(self, claim: Claim) -> bool:
        """Note that the job is done, unless the claim ran out and somebody else has taken it."""
        try:
            await self._db.put(claim.key, DONE, expected=claim.record)
        except ConditionFailedError:
            return False
        return True


async def work(queue: Queue, worker: str, paid: list[str]) -> None:
    """Do jobs until none is left, and write down those to be paid for."""
    while not await queue.is_empty():
        claim = await queue.claim(worker)
        await asyncio.sleep(0.3)  # The work; or a rest, if there is none.
        try:
            if claim is not None and await queue.finish(claim):
                paid.append(claim.key.decode())
        except (DeadlineExceededError, OutcomeUnknownError):
            pass  # Nobody is paid; if the job is not done, its claim will run out.
