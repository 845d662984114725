"""Accounts between which money is moved: whoever looks at all of them finds the same total.

Purpose
    Transfers are atomic and carried out once, and a read of all accounts is of one moment. Here a
    bank lies in one range and a transfer is a batch of two increments, so accounts may go below
    zero; in transfers.py it is a transaction over any ranges.
Anomalies
    wrong-total, wrong-accounts   as in checkers/bank.py
    wrong-balance                 an account that does not end with what its transfers made of it
"""

import random
from collections.abc import Iterable, Iterator

from multiraft.client.batch import Batch
from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict, bank
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import groups, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Balances = tuple[tuple[int, int], ...]
"""Each account, and what it holds."""


class BankWorkload(Workload, frozen=True, kw_only=True, tag="bank"):
    """See the module."""

    banks: int = 2
    accounts: int = 5
    paid_in: int = 100
    """Into each account."""

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Pay in."""
        for name in self._banks:
            batch = Batch()
            for account in self._accounts(name):
                batch.increment(account, self.paid_in)
            await db.batch(batch)

    async def client(self, c: ClientRun) -> None:
        """Move money, and look at all accounts."""
        while not c.is_over():
            name = c.rng.choice(self._banks)
            drawn = c.rng.random()
            if drawn < 0.6:
                source, target = c.rng.sample(range(self.accounts), 2)
                amount = c.rng.randint(1, 10)
                accounts = self._accounts(name)
                call = _transfer(c.db, accounts[source], accounts[target], amount)
                await c.ask("transfer", name, (source, target, amount), call)
            elif drawn < 0.8:
                await c.ask("read", name, "batch", self._read(c.db, name))
            else:
                await c.ask("read", name, "scan", self._scan(c.db, name))
            await c.pause()

    async def _read(self, db: Database, name: str) -> Balances:
        batch = Batch()
        for account in self._accounts(name):
            batch.get(account)
        answers = await db.batch(batch)
        return tuple((n, values.decode_counter(values.held(a))) for n, a in enumerate(answers))

    async def _scan(self, db: Database, name: str) -> Balances:
        rows = {key: value async for key, value in db.scan(prefix=f"{name}/".encode())}
        accounts = self._accounts(name)
        return tuple((n, values.decode_counter(rows.get(key))) for n, key in enumerate(accounts))

    @property
    def _banks(self) -> list[str]:
        return [self.key(number) for number in range(self.banks)]

    def _accounts(self, name: str) -> list[bytes]:
        return [f"{name}/{number:03}".encode() for number in range(self.accounts)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every bank, and see which were cut."""
        for name in self._banks:
            await history.record(FINAL, "read", name, "scan", self._scan(db, name))
        members = {name: [key.decode() for key in self._accounts(name)] for name in self._banks}
        await groups.note_cuts(db, history, members)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Add up every read of all accounts, and every account."""
        by_bank, notes = groups.whole(history)
        total = self.accounts * self.paid_in
        anomalies: list[Anomaly] = []
        judged = 0
        for operations in by_bank.values():
            verdict = bank.check(operations, total=total, allow_negative=True)
            judged += verdict.operations
            anomalies += verdict.anomalies
            for read in operations:
                if read.process == FINAL and read.outcome == "ok":
                    anomalies += self._balances(read, operations)
        return (Verdict(self.name, judged, tuple(anomalies), notes),)

    def _balances(self, final: Operation, operations: Iterable[Operation]) -> Iterator[Anomaly]:
        transfers = [o for o in operations if o.function == "transfer" and o.outcome != "failed"]
        for account, balance in final.result:
            least = most = self.paid_in
            for transfer in transfers:
                change = _change(transfer, account)
                is_sure = transfer.outcome == "ok"
                least += change if is_sure else min(change, 0)
                most += change if is_sure else max(change, 0)
            if not least <= balance <= most:
                story = f"account {account} of {final.key} ends with {balance}; its transfers make "
                between = f"{least}" if least == most else f"something from {least} to {most}"
                yield Anomaly("wrong-balance", story + between, (final.id,))


def _change(transfer: Operation, account: int) -> int:
    source, target, amount = transfer.argument
    if account == source:
        return -int(amount)
    return int(amount) if account == target else 0


async def _transfer(db: Database, source: bytes, target: bytes, amount: int) -> None:
    """Move money between two accounts of a bank, at once."""
    await db.batch(Batch().increment(source, -amount).increment(target, amount))
