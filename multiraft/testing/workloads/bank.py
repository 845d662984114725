"""Accounts between which money is moved: whoever looks at all of them finds the same total.

Purpose
    Transfers are atomic and carried out once, and a read of all accounts is of one moment. Until
    there are transactions, a bank lies in one range and a transfer is a batch of two increments, so
    accounts may go below zero; `_transfer` is all that transactions change.
Anomalies
    total    a read of all accounts of which the sum is not what was paid in
    balance  an account that does not end with what its transfers made of it
"""

import random
from collections.abc import Iterable, Iterator, Sequence

from multiraft.client.batch import Batch
from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import groups, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Balances = tuple[int, ...]


class BankWorkload(Workload, frozen=True, kw_only=True, tag="bank"):
    """See the module."""

    banks: int = 2
    accounts: int = 5
    paid_in: int = 100
    """Into each account."""

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Pay in."""
        for bank in self._banks:
            batch = Batch()
            for account in self._accounts(bank):
                batch.increment(account, self.paid_in)
            await db.batch(batch)

    async def client(self, c: ClientRun) -> None:
        """Move money, and look at all accounts."""
        while not c.is_over():
            bank = c.rng.choice(self._banks)
            drawn = c.rng.random()
            if drawn < 0.6:
                source, target = c.rng.sample(range(self.accounts), 2)
                amount = c.rng.randint(1, 10)
                accounts = self._accounts(bank)
                call = _transfer(c.db, accounts[source], accounts[target], amount)
                await c.ask("transfer", bank, (source, target, amount), call)
            elif drawn < 0.8:
                await c.ask("read", bank, "batch", self._read(c.db, bank))
            else:
                await c.ask("read", bank, "scan", self._scan(c.db, bank))
            await c.pause()

    async def _read(self, db: Database, bank: str) -> Balances:
        batch = Batch()
        for account in self._accounts(bank):
            batch.get(account)
        return tuple(values.decode_counter(values.held(answer)) for answer in await db.batch(batch))

    async def _scan(self, db: Database, bank: str) -> Balances:
        rows = {key: value async for key, value in db.scan(prefix=f"{bank}/".encode())}
        return tuple(values.decode_counter(rows.get(key)) for key in self._accounts(bank))

    @property
    def _banks(self) -> list[str]:
        return [self.key(number) for number in range(self.banks)]

    def _accounts(self, bank: str) -> list[bytes]:
        return [f"{bank}/{number:03}".encode() for number in range(self.accounts)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every bank, and see which were cut."""
        for bank in self._banks:
            await history.record(FINAL, "read", bank, "scan", self._scan(db, bank))
        members = {bank: [key.decode() for key in self._accounts(bank)] for bank in self._banks}
        await groups.note_cuts(db, history, members)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Add up every read of all accounts, and every account."""
        by_bank, notes = groups.whole(history)
        anomalies = [
            anomaly for operations in by_bank.values() for anomaly in self._judge(operations)
        ]
        judged = sum(map(len, by_bank.values()))
        return (Verdict(self.name, judged, tuple(anomalies), notes),)

    def _judge(self, operations: Sequence[Operation]) -> Iterator[Anomaly]:
        expected = self.accounts * self.paid_in
        for read in operations:
            if read.function != "read" or read.outcome != "ok":
                continue
            total = sum(read.result)
            if total != expected:
                story = f"{read.key} held {total} in all, but {expected} were paid in"
                yield Anomaly("total", f"{story}: {read.result}", (read.id,))
            if read.process == FINAL:
                yield from self._balances(read, operations)

    def _balances(self, final: Operation, operations: Iterable[Operation]) -> Iterator[Anomaly]:
        transfers = [o for o in operations if o.function == "transfer" and o.outcome != "failed"]
        for account, balance in enumerate(final.result):
            least = most = self.paid_in
            for transfer in transfers:
                change = _change(transfer, account)
                is_sure = transfer.outcome == "ok"
                least += change if is_sure else min(change, 0)
                most += change if is_sure else max(change, 0)
            if not least <= balance <= most:
                story = f"account {account} of {final.key} ends with {balance}; its transfers make "
                between = f"{least}" if least == most else f"something from {least} to {most}"
                yield Anomaly("balance", story + between, (final.id,))


def _change(transfer: Operation, account: int) -> int:
    source, target, amount = transfer.argument
    if account == source:
        return -int(amount)
    return int(amount) if account == target else 0


async def _transfer(db: Database, source: bytes, target: bytes, amount: int) -> None:
    """Move money between two accounts of a bank, at once."""
    await db.batch(Batch().increment(source, -amount).increment(target, amount))
