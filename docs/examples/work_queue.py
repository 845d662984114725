"""A work queue with several workers: each job is done by one of them, in the order of arrival.

A worker looks for jobs outside of any transaction, which disturbs nobody, and claims one inside.
What a worker has claimed and not finished in time is put back by whoever notices.
"""

import asyncio

import multiraft

WAITING, CLAIMED, DONE = b"waiting/", b"claimed/", b"done/"
CLAIM_S = 2.0
LOOKED_AT = 8


async def add(db: multiraft.Database, job: str) -> int:
    """Append a job, and return its number."""

    async def append(txn: multiraft.Transaction) -> int:
        number = await txn.increment(b"jobs-added")
        await txn.put(WAITING + b"%010d" % number, job.encode())
        return number

    return await db.run(append)


async def claim(db: multiraft.Database, worker: str) -> tuple[bytes, str] | None:
    """Claim the first job that is free. Return its number and what to do, or None."""
    until = asyncio.get_running_loop().time() + CLAIM_S

    async def take(txn: multiraft.Transaction, number: bytes) -> str | None:
        # Locked, so that of several who want this job one gets it and the others wait to see that.
        job = await txn.get(WAITING + number, for_update=True)
        if job is None:
            return None
        await txn.delete(WAITING + number)
        await txn.put(CLAIMED + number, b"%.3f %s %s" % (until, worker.encode(), job))
        return job.decode()

    async for key, _ in db.scan(prefix=WAITING, limit=LOOKED_AT):
        number = key.removeprefix(WAITING)
        job = await db.run(lambda txn, number=number: take(txn, number))
        if job is not None:
            return number, job
    return None


async def finish(db: multiraft.Database, worker: str, number: bytes) -> bool:
    """Mark a job as done; False if the claim had run out and somebody else has the job."""

    async def mark(txn: multiraft.Transaction) -> bool:
        record = await txn.get(CLAIMED + number, for_update=True)
        if record is None or record.split()[1] != worker.encode():
            return False
        await txn.delete(CLAIMED + number)
        await txn.put(DONE + number, worker.encode())
        return True

    return await db.run(mark)


async def put_back(db: multiraft.Database) -> int:
    """Let others have the jobs whose workers took too long; return how many there are."""
    now = asyncio.get_running_loop().time()

    async def move(txn: multiraft.Transaction) -> int:
        late = 0
        async for key, record in txn.scan(prefix=CLAIMED):
            until, _, job = record.split(b" ", 2)
            if float(until) < now:
                await txn.delete(key)
                await txn.put(WAITING + key.removeprefix(CLAIMED), job)
                late += 1
        return late

    return await db.run(move)


async def work(db: multiraft.Database, worker: str, wanted: int) -> None:
    """Do jobs until `wanted` of them are done, by whomever."""
    while len([key async for key, _ in db.scan(prefix=DONE)]) < wanted:
        claimed = await claim(db, worker)
        if claimed is None:
            await asyncio.sleep(0.2)
            await put_back(db)
            continue
        number, _ = claimed
        await asyncio.sleep(0.05)  # The work.
        await finish(db, worker, number)
