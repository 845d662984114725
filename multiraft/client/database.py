"""The database as an application sees it.

    async with multiraft.connect("db1:7000", "db2:7000") as db:
        await db.put(b"answer", b"42")
        async for key, value in db.scan(prefix=b"user/"):
            ...

Purpose
    Methods on the application's own keys and values; the keyspace prefix, the limits and the
    results are dealt with here, everything else is the router's.
Invariants
    - Every call ends by its deadline: with a result, an error that is definite, or an error that
      says that it is not.
    - Any await may be cancelled. A write that was cancelled may or may not happen.
Errors that any method may raise
    DeadlineExceededError: no answer in time, and nothing was or will be written.
    OutcomeUnknownError: no answer in time, and a write may have happened, or may still.
    StoppedError: the database was closed.
    RequestError and those below it: a key, value or batch that can never be accepted.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import TypeVar

import msgspec

from multiraft import config, errors
from multiraft.client import batch, many, scan
from multiraft.client.admin import Admin
from multiraft.client.batch import ANY, Answer, Batch, Builder, Expected
from multiraft.client.moment import Moment
from multiraft.client.router import Router, RouterStatus
from multiraft.client.scan import Row
from multiraft.client.snapshot import Snapshot
from multiraft.client.transaction import Coordinator, Retries, Transaction, TransactionsStatus
from multiraft.model.requests import (
    BatchReply,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    IncrementResult,
    Operation,
    Put,
    PutResult,
    Result,
)
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import Transport
from multiraft.runtime import Clock, Rng, SystemClock, SystemRng

R = TypeVar("R", bound=Result)
T = TypeVar("T")


def connect(
    *addresses: str,
    deadline_s: float | None = None,
    tls_ca_file: str = "",
    tls_certificate_file: str = "",
    tls_key_file: str = "",
    settings: config.Config | None = None,
    transport: Transport | None = None,
    clock: Clock | None = None,
    rng: Rng | None = None,
) -> "Database":
    """Return a database to be opened with `async with`, or with `open` and `close`.

    Any node of the cluster will do; several addresses help while one of them is down.
    `deadline_s` is for every call that names none (10 s). `tls_ca_file` turns TLS on; certificate
    and key are for clusters that ask clients for one. `transport`, `clock` and `rng` are seams for
    tests and for nodes. Opening raises NodeUnavailableError if no address answers.
    """
    made = settings or config.Config()
    client, net = made.client, made.net
    if deadline_s is not None:
        if not deadline_s > 0:
            raise errors.ConfigError(f"deadline_s is {deadline_s}, but must be above 0")
        client = msgspec.structs.replace(client, deadline_s=deadline_s)
    if tls_ca_file or tls_certificate_file or tls_key_file:
        net = msgspec.structs.replace(
            net,
            tls_ca_file=tls_ca_file,
            tls_certificate_file=tls_certificate_file,
            tls_key_file=tls_key_file,
        )
    return Database(
        addresses,
        msgspec.structs.replace(made, client=client, net=net),
        transport=transport,
        clock=clock or SystemClock(),
        rng=rng or SystemRng(),
    )


class Database:
    """See the module; made by `connect`. Belongs to the event loop on which it was opened."""

    def __init__(
        self,
        addresses: Sequence[str],
        settings: config.Config,
        *,
        transport: Transport | None,
        clock: Clock,
        rng: Rng,
    ) -> None:
        if not addresses:
            raise errors.ConfigError("connect needs the address of at least one node")
        self._addresses = tuple(addresses)
        self._settings = settings
        self._limits = settings.limits
        self._builder = Builder(settings.limits)
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._opened: Router | None = None
        self._transactions: Coordinator | None = None
        self._is_closed = False

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Reach a node. Raises NodeUnavailableError, WrongClusterError or ProtocolError.

        May be repeated when it has failed. RequestError if the database is open, or was closed.
        """
        if self._opened is not None or self._is_closed:
            raise errors.RequestError("a database is opened once: connect another time")
        router = Router(
            self._transport or TcpTransport(self._settings.net, _report),
            self._clock,
            self._rng,
            self._settings.client,
            seeds=self._addresses,
        )
        try:
            await router.open()
        except BaseException:
            await router.close()
            raise
        self._opened = router
        self._transactions = Coordinator(router, self._settings.client, self._limits)

    async def close(self) -> None:
        """Close the connections. Calls that are not answered yet end with StoppedError.

        Transactions that were rolled back, or have just committed, get up to a second to let every
        range know.
        """
        self._is_closed = True
        if self._transactions is not None:
            await self._transactions.close()
        if self._opened is not None:
            await self._opened.close()

    @property
    def admin(self) -> Admin:
        """What operators do: look at ranges, split them, move them."""
        return Admin(self._router, self._builder)

    def status(self) -> RouterStatus:
        """Return what this client is doing."""
        return self._router.status()

    async def ping(self) -> float:
        """Ask any node for a sign of life, and return how many seconds the answer took."""
        began = self._clock.monotonic()
        await self._router.connections.refresh()
        return self._clock.monotonic() - began

    # -- single keys -------------------------------------------------------------------------------

    async def get(self, key: bytes, *, deadline_s: float | None = None) -> bytes | None:
        """Return the value of `key`, or None if it is absent. Linearizable."""
        reply = await self._router.execute((Get(self._builder.key(key)),), deadline_s=deadline_s)
        return _only(reply, GetResult).value

    async def put(
        self,
        key: bytes,
        value: bytes,
        *,
        expected: Expected = ANY,
        deadline_s: float | None = None,
    ) -> None:
        """Set `key` to `value`; on return it is durable on a majority and visible to everybody.

        With `expected`, only if the key holds exactly that (None: if it is absent); otherwise
        ConditionFailedError, and nothing was written.
        """
        operation = self._builder.put(key, value, expected)
        if isinstance(operation, Put):
            reply = await self._router.execute((operation,), deadline_s=deadline_s)
            _only(reply, PutResult)
        else:
            await self._conditional(operation, deadline_s)

    async def delete(
        self, key: bytes, *, expected: Expected = ANY, deadline_s: float | None = None
    ) -> bool:
        """Remove `key`, and return whether it was there.

        With `expected`, only if the key holds exactly that; otherwise ConditionFailedError.
        """
        operation = self._builder.delete(key, expected)
        if isinstance(operation, Delete):
            reply = await self._router.execute((operation,), deadline_s=deadline_s)
            return _only(reply, DeleteResult).existed
        await self._conditional(operation, deadline_s)
        return operation.expected is not None

    async def increment(
        self, key: bytes, delta: int = 1, *, deadline_s: float | None = None
    ) -> int:
        """Add `delta` to the counter at `key` (absent: 0), and return the sum.

        A counter's value is eight bytes, big-endian, signed. NotAnIntegerError if the key holds
        something else, or if the sum does not fit.
        """
        operation = self._builder.increment(key, delta)
        reply = await self._router.execute((operation,), deadline_s=deadline_s)
        return _only(reply, IncrementResult).value

    # -- several keys ------------------------------------------------------------------------------

    async def batch(self, given: Batch, *, deadline_s: float | None = None) -> list[Answer]:
        """Carry out a batch, and return one answer for each of its operations, in order.

        The operations on keys of one range are atomic and happen in order. Different ranges are
        independent: some may be carried out and others not. ConditionFailedError if a condition
        does not hold: then nothing was written in that key's range.
        """
        operations = given.operations(self._builder, self._limits)
        return await self._execute(operations, deadline_s)

    async def get_many(
        self, wanted: Iterable[bytes], *, deadline_s: float | None = None
    ) -> dict[bytes, bytes | None]:
        """Return the value of each key, None for those that are absent.

        Each value is as current as with `get`; together they are not one moment's view, for that
        use `scan`. Any number of keys: the deadline is for each of the requests this takes.
        """
        return await many.get_many(
            lambda operations: self._execute(operations, deadline_s),
            [self._builder.get(key) for key in wanted],
        )

    async def put_many(
        self,
        pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]],
        *,
        deadline_s: float | None = None,
    ) -> None:
        """Set many keys. Not atomic: after an error, some are set and others are not.

        Of a key that is given twice, the last value is set. Any number of keys: the deadline is for
        each of the requests this takes.
        """
        last = dict(pairs)

        async def write(operations: tuple[Operation, ...]) -> None:
            await self._execute(operations, deadline_s)

        await many.in_parts(
            [self._builder.put(key, value, ANY) for key, value in last.items()], write
        )

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[Row, None]:
        """Yield `(key, value)` of `[start, end)`, ascending, or descending when `reverse`.

        `end` None means to the last key. With `prefix`, only keys that begin with it. At most
        `limit` rows. All rows are as of one time, at or after the call's first page; changes made
        meanwhile are not seen. The deadline is for each wait for a page, not for the whole scan.

        Raises InvalidSpanError if `end` lies before `start`. Close it early with `aclose`, or
        simply stop iterating.
        """
        return scan.row_by_row(
            self._pages(start, end, prefix, deadline_s, reverse=reverse, limit=limit)
        )

    def scan_pages(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[list[Row], None]:
        """Like `scan`, but yield lists of rows as they arrive: faster when there are many."""
        return scan.page_by_page(
            self._pages(start, end, prefix, deadline_s, reverse=reverse, limit=limit)
        )

    def snapshot(self, at: Moment | None = None, *, owner: str = "a snapshot") -> Snapshot:
        """Return the database as it was `at` some time, for reads that fit together.

            async with db.snapshot(at=timedelta(minutes=10)) as then:
                before = await then.get(b"answer")

        `at` is a `datetime` with a time zone, a `timedelta` before now, or a timestamp of the
        cluster. None: as it is now, which is the first read's time, at or after the call of it; all
        later reads are of that same moment. Any past can be read back to the time to live of old
        versions (an hour, unless the cluster is told otherwise); further back, ReadTooOldError. A
        snapshot that lasts keeps its time readable; operators see `owner` as the one who does.

        Raises RequestError, when it is entered, for a time in the future.
        """
        return Snapshot(self._router, self._builder, self._settings, at, owner)

    # -- transactions ------------------------------------------------------------------------------

    async def run(
        self,
        function: Callable[[Transaction], Awaitable[T]],
        *,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> T:
        """Run `function(txn)` as a transaction, and return what it returns once that has committed.

        It is run again, from its start and with another transaction, whenever others got in its
        way: so it should do nothing that must not happen twice, except through `txn`. What it
        raises rolls the transaction back and is raised here as it is. The deadline is for all
        attempts together. Of two transactions that cannot both go on, the one with the higher
        `priority` does, then the older one.
        """
        retries = self._retries(priority=priority, deadline_s=deadline_s)
        while True:
            txn = retries.begin()
            try:
                result = await function(txn)
                await retries.finish()
            except Exception as error:
                await retries.prepare(error)
            except BaseException:
                await txn.rollback()
                raise
            else:
                return result

    def transaction(self, *, priority: int = 0, deadline_s: float | None = None) -> Transaction:
        """Return a transaction for `async with`, which commits at the end of the block.

        An error inside the block rolls it back. It is not run again: when others have changed what
        it has read it raises TransactionRetryError, so use `run` where that may happen. The
        deadline is for all of it, the application's own time included.
        """
        return self._retries(priority=priority, deadline_s=deadline_s).begin(is_renewable=True)

    async def delete_range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        deadline_s: float | None = None,
    ) -> int:
        """Remove every key of `[start, end)`, all at one moment; return how many there were.

        A transaction of its own. With more keys than `transaction_keys_max` it raises
        TransactionTooLargeError: remove them in several steps.
        """
        return await self.run(
            lambda txn: txn.delete_range(start, end, prefix=prefix), deadline_s=deadline_s
        )

    def transactions_status(self) -> TransactionsStatus:
        """Return what the transactions of this client have done."""
        return self._coordinator.status()

    # -- inside ------------------------------------------------------------------------------------

    def _retries(self, *, priority: int = 0, deadline_s: float | None = None) -> Retries:
        """Return what `run` goes by, here and in the blocking shell."""
        return Retries(self._coordinator, self._builder, priority=priority, deadline_s=deadline_s)

    @property
    def _coordinator(self) -> Coordinator:
        if self._transactions is None or self._is_closed:
            raise self._not_open()
        return self._transactions

    @property
    def _router(self) -> Router:
        if self._opened is None or self._is_closed:
            raise self._not_open()
        return self._opened

    def _not_open(self) -> errors.MultiraftError:
        if self._is_closed:
            return errors.StoppedError(what="the database")
        return errors.RequestError("the database is not open: use `async with`, or await `open`")

    async def _conditional(self, operation: ConditionalPut, deadline_s: float | None) -> None:
        reply = await self._router.execute((operation,), deadline_s=deadline_s)
        result = _only(reply, ConditionalPutResult)
        batch.answer(operation, result)

    async def _execute(
        self, operations: tuple[Operation, ...], deadline_s: float | None
    ) -> list[Answer]:
        if not operations:
            return []
        reply = await self._router.execute(operations, deadline_s=deadline_s)
        return batch.answers(operations, reply)

    def _pages(
        self,
        start: bytes,
        end: bytes | None,
        prefix: bytes,
        deadline_s: float | None,
        *,
        reverse: bool,
        limit: int | None,
    ) -> AsyncGenerator[Sequence[bytes], None]:
        return scan.pages(
            self._router,
            scan.span_cursor(
                self._builder, self._limits, start, end, prefix, reverse=reverse, limit=limit
            ),
            prefetch=self._settings.client.scan_prefetch,
            deadline_s=deadline_s,
        )


def _only(reply: BatchReply, kind: type[R]) -> R:
    """Return the result of the only operation."""
    result = reply.results[0]
    if isinstance(result, kind):
        return result
    raise batch.unexpected(result)


def _report(error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "a connection of the client failed", "exception": error}
    )
