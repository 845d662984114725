"""Accounts in any ranges, transactions that move money between them, and a ledger of those.

Purpose
    A transfer looks whether there is enough, changes two accounts and writes an entry of its own
    into the ledger, all or nothing and once. Accounts never go below zero; at the end each holds
    what the ledger makes of it, and the ledger has exactly the transfers that were acknowledged.
Anomalies
    wrong-total, wrong-accounts, negative-balance   as in checkers/bank.py
    lost-transfer       acknowledged, but not in the ledger
    unwanted-transfer   in the ledger, though it failed, found too little money, or nobody asked
    wrong-balance       an account that does not end with what the ledger makes of it
"""

import itertools
import random
from collections.abc import Iterator

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict, bank
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Balances = tuple[tuple[int, int], ...]
"""Each account, and what it holds."""

LEDGER = "ledger"


class TransfersWorkload(Workload, frozen=True, kw_only=True, tag="transfers"):
    """See the module."""

    accounts: int = 8
    paid_in: int = 20
    """Into each account."""

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Pay in."""

        async def pay_in(txn: Transaction) -> None:
            for account in self._accounts:
                await txn.put(account, values.encode(self.paid_in))

        await db.run(pay_in)

    async def client(self, c: ClientRun) -> None:
        """Move money, and look at all accounts."""
        entries = (f"{c.number}-{serial:05}" for serial in itertools.count())
        while not c.is_over():
            drawn = c.rng.random()
            if drawn < 0.6:
                source, target = c.rng.sample(range(self.accounts), 2)
                asked = (next(entries), source, target, c.rng.randint(1, self.paid_in))
                await c.ask("transfer", None, asked, self._transfer(c.db, *asked))
            elif drawn < 0.75:
                await c.ask("read", None, "get", self._get(c.db))
            elif drawn < 0.9:
                await c.ask("read", None, "transaction", self._scan_in_transaction(c.db))
            else:
                await c.ask("read", None, "scan", self._scan(c.db))
            await c.pause()

    async def _transfer(
        self, db: Database, entry: str, source: int, target: int, amount: int
    ) -> bool:
        """Move money if there is enough; return whether there was."""
        keys = self._accounts

        async def move(txn: Transaction) -> bool:
            held = await _balance(txn, keys[source])
            if held < amount:
                return False
            await txn.put(keys[target], values.encode(await _balance(txn, keys[target]) + amount))
            await txn.put(keys[source], values.encode(held - amount))
            await txn.put(self.key(LEDGER, entry).encode(), f"{source} {target} {amount}".encode())
            return True

        return await db.run(move)

    async def _get(self, db: Database) -> Balances:
        async def read(txn: Transaction) -> Balances:
            return self._told(await txn.get_many(self._accounts))

        return await db.run(read)

    async def _scan_in_transaction(self, db: Database) -> Balances:
        async def read(txn: Transaction) -> Balances:
            return self._told(dict([row async for row in txn.scan(prefix=self._prefix)]))

        return await db.run(read)

    async def _scan(self, db: Database) -> Balances:
        return self._told(dict([row async for row in db.scan(prefix=self._prefix)]))

    def _told(self, rows: dict[bytes, bytes | None] | dict[bytes, bytes]) -> Balances:
        return tuple((n, int(rows.get(key) or b"0")) for n, key in enumerate(self._accounts))

    @property
    def _prefix(self) -> bytes:
        return self.key("account", "").encode()

    @property
    def _accounts(self) -> list[bytes]:
        return [self.key("account", f"{n:03}").encode() for n in range(self.accounts)]

    async def finish(self, db: Database, history: History) -> None:
        """Read all accounts and the ledger."""
        await history.record(FINAL, "read", None, "scan", self._scan(db))
        await history.record(FINAL, LEDGER, None, None, self._ledger(db))

    async def _ledger(self, db: Database) -> tuple[tuple[str, int, int, int], ...]:
        prefix = self.key(LEDGER, "")
        entries = []
        async for key, value in db.scan(prefix=prefix.encode()):
            source, target, amount = map(int, value.split())
            entries.append((key.decode().removeprefix(prefix), source, target, amount))
        return tuple(entries)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Add up every read of all accounts, and the ledger."""
        told = bank.check(
            (o for o in history if o.function != LEDGER), total=self.accounts * self.paid_in
        )
        anomalies = [*told.anomalies]
        for final in history:
            if final.function == LEDGER and final.outcome == "ok":
                anomalies += self._against_ledger(history, final)
        return (Verdict(self.name, told.operations, tuple(anomalies), told.notes),)

    def _against_ledger(self, history: History, final: Operation) -> Iterator[Anomaly]:
        ledger = {entry[0]: entry for entry in final.result}
        asked = {o.argument[0]: o for o in history if o.function == "transfer"}
        for name, transfer in asked.items():
            is_there = name in ledger
            if transfer.outcome == "ok" and transfer.result and not is_there:
                story = f"transfer {name} was acknowledged, but the ledger has no such entry"
                yield Anomaly("lost-transfer", story, (transfer.id, final.id))
            if is_there and (
                transfer.outcome == "failed" or (transfer.outcome == "ok" and not transfer.result)
            ):
                story = f"transfer {name} was not carried out, its client was told; it is there"
                yield Anomaly("unwanted-transfer", story, (transfer.id, final.id))
        for name in ledger:
            if name not in asked:
                story = f"nobody asked for transfer {name}"
                yield Anomaly("unwanted-transfer", story, (final.id,))
        expected = dict.fromkeys(range(self.accounts), self.paid_in)
        for _, source, target, amount in ledger.values():
            expected[source] -= amount
            expected[target] += amount
        last = next(
            o for o in history if o.process == FINAL and o.function == "read" and o.outcome == "ok"
        )
        for account, balance in last.result:
            if balance != expected[account]:
                story = (
                    f"account {account} ends with {balance}, "
                    f"but the ledger makes {expected[account]} of it"
                )
                yield Anomaly("wrong-balance", story, (last.id, final.id))


async def _balance(txn: Transaction, key: bytes) -> int:
    return int(await txn.get(key) or b"0")
