"""The same database without asyncio: for scripts, threads and the interactive prompt.

    with multiraft.blocking.connect("db1:7000") as db:
        db.put(b"answer", b"42")

Purpose
    A thin shell: one thread runs an event loop with the asynchronous database on it, and each
    method waits for one of its coroutines. What the methods do, promise and raise is told in
    database.py; only what differs is told here.
Invariants
    - Any thread may call any method; calls of different threads run at the same time.
    - Interrupting a call (Ctrl-C) cancels it, as cancelling the coroutine would.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from multiraft import config, errors, runtime
from multiraft.client import database, snapshot
from multiraft.client.admin import (
    CHANGE_REPLICAS_DEADLINE_S,
    ClusterStatus,
    NodeInfo,
    ProfileInfo,
    ProtectionInfo,
    RangeInfo,
)
from multiraft.client.batch import ANY, Answer, Batch, Expected
from multiraft.client.contention import RangeLocksInfo, TransactionInfo
from multiraft.client.moment import Moment
from multiraft.client.protection import Keeper
from multiraft.client.router import RouterStatus
from multiraft.client.scan import Row
from multiraft.client.transaction import Retries, TransactionsStatus
from multiraft.client.transaction import blocking as transaction
from multiraft.client.transaction.blocking import Transaction, Wait
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model.descriptor import RangeDescriptor
from multiraft.net.transport import Transport

__all__ = ["Admin", "Database", "Transaction", "connect"]

T = TypeVar("T")
C = TypeVar("C", snapshot.Snapshot, Keeper)


def connect(
    *addresses: str,
    deadline_s: float | None = None,
    tls_ca_file: str = "",
    tls_certificate_file: str = "",
    tls_key_file: str = "",
    settings: config.Config | None = None,
    transport: Transport | None = None,
) -> "Database":
    """Return a database to be opened with `with`; arguments are those of `multiraft.connect`."""
    return Database(
        database.connect(
            *addresses,
            deadline_s=deadline_s,
            tls_ca_file=tls_ca_file,
            tls_certificate_file=tls_certificate_file,
            tls_key_file=tls_key_file,
            settings=settings,
            transport=transport,
        )
    )


class Database:
    """See the module; made by `connect`.

    With `loop`, which another thread runs for longer than the database is open, there is no thread
    of its own.
    """

    def __init__(
        self, inner: database.Database, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._inner = inner
        self._borrowed = loop
        self._opened: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        # Nothing is given to the loop once it may be about to end: it might never be run.
        self._lock = threading.Lock()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="multiraft client", daemon=True)

    def __enter__(self) -> "Database":
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start the thread and reach a node.

        RequestError if it was opened before, also if that failed.
        """
        if self._borrowed is not None:
            if self._borrowed.is_closed():
                raise errors.StoppedError(what="the database")
            asyncio.run_coroutine_threadsafe(self._inner.open(), self._borrowed).result()
            self._loop = self._borrowed
            return
        if self._thread.ident is not None:
            raise errors.RequestError("a database is opened once: connect another time")
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections and end the thread. Calls under way end with StoppedError."""
        with self._lock:
            self._is_closing = True
        if self._borrowed is not None:
            if not self._borrowed.is_closed():  # Whoever ended the loop has ended all on it.
                asyncio.run_coroutine_threadsafe(self._inner.close(), self._borrowed).result()
            return
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            # When opening failed, the loop may end by itself just now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
        if self._thread.ident is not None:
            self._thread.join()

    def status(self) -> RouterStatus:
        """Return what this client is doing."""

        async def ask() -> RouterStatus:
            return self._inner.status()

        return self._wait(ask())

    def ping(self) -> float:
        """Ask any node for a sign of life, and return how many seconds the answer took."""
        return self._wait(self._inner.ping())

    def get(self, key: bytes, *, deadline_s: float | None = None) -> bytes | None:
        """Return the value of `key`, or None if it is absent."""
        return self._wait(self._inner.get(key, deadline_s=deadline_s))

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        expected: Expected = ANY,
        deadline_s: float | None = None,
    ) -> None:
        """Set `key` to `value`, if it holds `expected`."""
        self._wait(self._inner.put(key, value, expected=expected, deadline_s=deadline_s))

    def delete(
        self, key: bytes, *, expected: Expected = ANY, deadline_s: float | None = None
    ) -> bool:
        """Remove `key`, if it holds `expected`, and return whether it was there."""
        return self._wait(self._inner.delete(key, expected=expected, deadline_s=deadline_s))

    def increment(self, key: bytes, delta: int = 1, *, deadline_s: float | None = None) -> int:
        """Add `delta` to the counter at `key`, and return the sum."""
        return self._wait(self._inner.increment(key, delta, deadline_s=deadline_s))

    def batch(self, given: Batch, *, deadline_s: float | None = None) -> list[Answer]:
        """Carry out a batch; atomic per range only."""
        return self._wait(self._inner.batch(given, deadline_s=deadline_s))

    def get_many(
        self, wanted: Iterable[bytes], *, deadline_s: float | None = None
    ) -> dict[bytes, bytes | None]:
        """Return the value of each key."""
        return self._wait(self._inner.get_many(wanted, deadline_s=deadline_s))

    def put_many(
        self,
        pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]],
        *,
        deadline_s: float | None = None,
    ) -> None:
        """Set many keys; not atomic."""
        self._wait(self._inner.put_many(pairs, deadline_s=deadline_s))

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> Generator[Row, None, None]:
        """Yield `(key, value)` of `[start, end)` as of one time."""
        return transaction.rows(
            self._wait,
            lambda: self._inner.scan_pages(
                start, end, prefix=prefix, reverse=reverse, limit=limit, deadline_s=deadline_s
            ),
        )

    def snapshot(self, at: Moment | None = None, *, owner: str = "a snapshot") -> "Snapshot":
        """Return the database as it was `at` some time, to be used with `with`."""
        return Snapshot(self._inner.snapshot(at, owner=owner), self._wait)

    def run(
        self,
        function: Callable[[Transaction], T],
        *,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> T:
        """Run `function(txn)` as a transaction until it commits, and return what it returns.

        It runs in the thread that calls this.
        """

        async def begin() -> Transaction:
            return Transaction(retries.begin(), self._wait)

        async def make() -> Retries:
            return self._inner._retries(priority=priority, deadline_s=deadline_s)

        retries = self._wait(make())
        while True:
            txn = self._wait(begin())
            try:
                result = function(txn)
                self._wait(retries.finish())
            except Exception as error:
                try:
                    self._wait(retries.prepare(error))
                except errors.StoppedError:
                    raise error from None
            except BaseException:
                txn.rollback()
                raise
            else:
                return result

    def transaction(self, *, priority: int = 0, deadline_s: float | None = None) -> Transaction:
        """Return a transaction for `with`, which commits at the end of the block."""

        async def begin() -> Transaction:
            inner = self._inner.transaction(priority=priority, deadline_s=deadline_s)
            return Transaction(inner, self._wait)

        return self._wait(begin())

    def delete_range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        deadline_s: float | None = None,
    ) -> int:
        """Remove every key of `[start, end)`, all at one moment; return how many there were."""
        return self._wait(
            self._inner.delete_range(start, end, prefix=prefix, deadline_s=deadline_s)
        )

    def transactions_status(self) -> TransactionsStatus:
        """Return what the transactions of this client have done."""

        async def ask() -> TransactionsStatus:
            return self._inner.transactions_status()

        return self._wait(ask())

    @property
    def admin(self) -> "Admin":
        """What operators do: look at ranges, split them, move them."""
        return Admin(self._inner, self._wait)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop's thread and return what it returns."""
        with self._lock:
            loop = self._loop
            if loop is None and not self._is_closing:
                coroutine.close()
                raise errors.RequestError("the database is not open: use `with` or `open`")
            if loop is None or self._is_closing or loop.is_closed():
                coroutine.close()
                raise errors.StoppedError(what="the database")
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except CancelledError:
            raise errors.StoppedError(what="the database") from None
        except BaseException:
            future.cancel()
            raise

    def _run(self) -> None:
        # The process's switch interval is the application's business, so it is left as it is.
        runtime.run(self._serve(), switch_interval_s=sys.getswitchinterval())

    async def _serve(self) -> None:
        """Keep the database open until `close` is called."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._inner.open()
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self._inner.close()


class _OfTime(Generic[C]):
    """What is about a time, for as long as a `with` block lasts; of an asynchronous one."""

    __slots__ = ("_inner", "_wait")

    _inner: C

    def __init__(self, inner: C, wait: Wait) -> None:
        self._inner = inner
        self._wait = wait

    def __enter__(self) -> Self:
        """Find out which time is meant, if one was given, and protect it, if that is asked for."""
        self._wait(self._inner.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the time go."""
        with contextlib.suppress(errors.StoppedError):
            self._wait(self._inner.__aexit__(kind, error, traceback))


class Snapshot(_OfTime[snapshot.Snapshot]):
    """The blocking face of client.snapshot.Snapshot."""

    __slots__ = ()

    @property
    def timestamp(self) -> Timestamp | None:
        """The time of all reads; None before the first one."""
        return self._inner.timestamp

    def get(self, key: bytes, *, deadline_s: float | None = None) -> bytes | None:
        """Return what `key` held, None if it was absent."""
        return self._wait(self._inner.get(key, deadline_s=deadline_s))

    def get_many(
        self, wanted: Iterable[bytes], *, deadline_s: float | None = None
    ) -> dict[bytes, bytes | None]:
        """Return what each key held."""
        return self._wait(self._inner.get_many(wanted, deadline_s=deadline_s))

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> Generator[Row, None, None]:
        """Yield `(key, value)` of `[start, end)`."""
        return transaction.rows(
            self._wait,
            lambda: self._inner.scan_pages(
                start, end, prefix=prefix, reverse=reverse, limit=limit, deadline_s=deadline_s
            ),
        )


class Protected(_OfTime[Keeper]):
    """A time that is kept readable while its `with` block lasts."""

    __slots__ = ()

    @property
    def timestamp(self) -> Timestamp:
        """The time."""
        return self._inner.timestamp


class Admin:
    """The blocking face of client.admin.Admin."""

    __slots__ = ("_inner", "_wait")

    def __init__(self, inner: database.Database, wait: Wait) -> None:
        self._inner = inner
        self._wait = wait

    def ranges(self, *, with_status: bool = True) -> list[RangeInfo]:
        """Return all ranges by start key."""
        return self._wait(self._inner.admin.ranges(with_status=with_status))

    def split(
        self, key: bytes, *, deadline_s: float | None = None
    ) -> tuple[RangeDescriptor, RangeDescriptor]:
        """Split the range that holds `key`, and return both halves."""
        return self._wait(self._inner.admin.split(key, deadline_s=deadline_s))

    def transfer(
        self, range_id: RangeId, target: NodeId, *, deadline_s: float | None = None
    ) -> RangeDescriptor:
        """Hand the leadership of a range to the replica on `target`."""
        return self._wait(self._inner.admin.transfer(range_id, target, deadline_s=deadline_s))

    def change_replicas(
        self,
        range_id: RangeId,
        voters: tuple[NodeId, ...],
        *,
        deadline_s: float = CHANGE_REPLICAS_DEADLINE_S,
    ) -> RangeDescriptor:
        """Give a range exactly these voters."""
        return self._wait(
            self._inner.admin.change_replicas(range_id, voters, deadline_s=deadline_s)
        )

    def find(self, range_id: RangeId) -> RangeDescriptor:
        """Return the descriptor of a range by its ID."""
        return self._wait(self._inner.admin.find(range_id))

    def replica_status(self, range_id: RangeId, node_id: NodeId) -> dict[str, Any] | None:
        """Return what the replica on one node reports of itself; None if it does not answer."""
        return self._wait(self._inner.admin.replica_status(range_id, node_id))

    def nodes(self) -> list[NodeInfo]:
        """Return all nodes, and what each that answers tells of itself."""
        return self._wait(self._inner.admin.nodes())

    def node_status(self, node_id: NodeId) -> dict[str, Any]:
        """Return what a node tells of itself."""
        return self._wait(self._inner.admin.node_status(node_id))

    def profile(self, node_id: NodeId, duration_s: float) -> dict[str, Any]:
        """Return what a node spends the next `duration_s` on, by stages."""
        return self._wait(self._inner.admin.profile(node_id, duration_s))

    def profiles(self, duration_s: float, only: NodeId | None = None) -> list[ProfileInfo]:
        """Profile all nodes, or `only` one, at the same time."""
        return self._wait(self._inner.admin.profiles(duration_s, only))

    def protect(self, at: Timestamp, *, owner: str = "an application") -> Protected:
        """Return what keeps everything readable as of `at` while its `with` block lasts."""
        return Protected(self._inner.admin.protect(at, owner=owner), self._wait)

    def protections(self, *, deadline_s: float | None = None) -> list[ProtectionInfo]:
        """Return the times that are protected now, the oldest first."""
        return self._wait(self._inner.admin.protections(deadline_s=deadline_s))

    def status(self) -> ClusterStatus:
        """Return the cluster at a glance."""
        return self._wait(self._inner.admin.status())

    def locks(self) -> tuple[RangeLocksInfo, ...]:
        """Return the locks of all ranges, with those who wait for them."""
        return self._wait(self._inner.admin.locks())

    def transactions(self) -> tuple[TransactionInfo, ...]:
        """Return the transactions that hold locks or wait for some, oldest first."""
        return self._wait(self._inner.admin.transactions())
