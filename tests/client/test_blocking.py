"""The blocking shell on a real loop in a real thread; the cluster lives on that loop too."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import multiraft
from multiraft import blocking, errors
from multiraft.ids import NodeId, RangeId
from multiraft.net.transport import Connection, Handler, Hello
from multiraft.runtime import SystemClock
from tests.support.fake_cluster import FakeCluster, FakeConnection, FakeTransport, Plan


class SlowTransport(FakeTransport):
    """A transport on which nobody ever answers a Hello."""

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> FakeConnection:
        raise errors.NodeUnavailableError(target=address, reason="nobody listens there")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(SystemClock(), splits=(b"h",))


@pytest.fixture
def db(cluster: FakeCluster) -> Iterator[blocking.Database]:
    with multiraft.blocking.connect("c1-n1:7000", transport=FakeTransport(cluster)) as opened:
        yield opened


def test_every_method_does_what_the_asynchronous_one_does(db: blocking.Database) -> None:
    db.put(b"a", b"1")
    assert db.get(b"a") == b"1"
    assert db.delete(b"a") is True
    assert db.increment(b"n", 3) == 3
    assert db.batch(multiraft.Batch().get(b"a").increment(b"n")) == [None, 4]
    db.put_many({b"k%d" % n: b"v" for n in range(5)})
    assert db.get_many([b"k1", b"none"]) == {b"k1": b"v", b"none": None}
    assert [key for key, _ in db.scan(prefix=b"k", reverse=True, limit=2)] == [b"k4", b"k3"]
    assert db.ping() >= 0.0
    assert db.status().cluster_id == "c1"


def test_errors_arrive_where_the_call_was_made(db: blocking.Database) -> None:
    with pytest.raises(errors.ConditionFailedError):
        db.put(b"a", b"1", expected=b"0")
    with pytest.raises(errors.InvalidSpanError):
        list(db.scan(b"b", b"a"))


def test_a_snapshot_does_what_the_asynchronous_one_does(db: blocking.Database) -> None:
    db.put_many({b"a": b"1", b"z": b"1"})
    with db.snapshot() as then:
        assert then.timestamp is None
        assert then.get(b"a") == b"1"
        db.put_many({b"a": b"2", b"z": b"2"})
        assert then.get_many([b"a", b"z"]) == {b"a": b"1", b"z": b"1"}
        assert list(then.scan(reverse=True)) == [(b"z", b"1"), (b"a", b"1")]
    with pytest.raises(errors.TransactionEndedError):
        then.get(b"a")
    assert then.timestamp is not None
    with db.admin.protect(then.timestamp) as kept, db.snapshot(kept.timestamp) as again:
        assert again.get(b"z") == b"1"
    assert db.admin.protections() == []


def test_a_transaction_does_what_the_asynchronous_one_does(db: blocking.Database) -> None:
    with db.transaction() as txn:
        txn.put(b"a", b"1", expected=None)
        assert txn.increment(b"n", 3) == 3
        assert txn.get(b"a", for_update=True) == b"1"
        assert txn.get_many([b"n", b"z"])[b"z"] is None
        assert txn.delete(b"z") is False
        assert [key for key, _ in txn.scan(limit=5, for_update=True)] == [b"a", b"n"]
    assert txn.has_ended
    with pytest.raises(errors.TransactionEndedError):
        txn.get(b"a")
    with db.transaction() as txn:
        assert txn.delete_range(prefix=b"a") == 1
        txn.rollback()
    with db.transaction() as txn:
        txn.put(b"k", b"1")
        assert txn.commit() > 0
    assert len(txn.id) == 16
    assert db.get(b"a") == b"1"
    assert db.delete_range() == 3
    assert db.transactions_status().begun == 4


def test_a_function_runs_until_it_commits(db: blocking.Database, cluster: FakeCluster) -> None:
    runs: list[bytes] = []

    def work(txn: blocking.Transaction) -> int:
        runs.append(txn.id)
        total = txn.increment(b"a")
        txn.get(b"z")
        if len(runs) == 1:
            db.increment(b"a", 10)
        return total

    assert db.run(work) == 11
    assert len(runs) == 2


def test_an_error_rolls_back(db: blocking.Database) -> None:
    failure = KeyboardInterrupt()
    for kind in (LookupError("mine"), failure):

        def work(txn: blocking.Transaction, raised: BaseException = kind) -> None:
            txn.put(b"a", b"1")
            raise raised

        with pytest.raises(type(kind)):
            db.run(work)

    def block() -> None:
        with db.transaction() as txn:
            txn.put(b"a", b"1")
            raise LookupError

    with pytest.raises(LookupError):
        block()
    assert db.get(b"a") is None


@pytest.mark.parametrize("how", ["run", "block"])
def test_an_error_is_told_although_the_database_was_closed(cluster: FakeCluster, how: str) -> None:
    db = multiraft.blocking.connect("c1-n1:7000", transport=FakeTransport(cluster))
    db.open()

    def work(txn: blocking.Transaction) -> None:
        txn.get(b"a", for_update=True)
        db.close()
        raise LookupError("mine")

    def block() -> None:
        with db.transaction() as txn:
            work(txn)

    with pytest.raises(LookupError, match="mine"):
        block() if how == "block" else db.run(work)
    assert not cluster.transactions.locks


def test_operators_can_use_it_too(db: blocking.Database, cluster: FakeCluster) -> None:
    left, right = db.admin.split(b"c")
    assert left.end == right.start
    db.admin.transfer(RangeId(2), NodeId(3))
    assert cluster.ranges[RangeId(2)].leader == 3
    assert len(db.admin.change_replicas(RangeId(2), (NodeId(1), NodeId(2))).replicas) == 2
    assert len(db.admin.ranges()) == db.admin.status().ranges == 4
    assert len(db.admin.nodes()) == 3
    assert db.admin.node_status(NodeId(2)) == {"node_id": 2}
    node_id = db.admin.find(RangeId(2)).replicas[0].node_id
    status = db.admin.replica_status(RangeId(2), node_id)
    assert status is not None
    assert status["asked"] == node_id


def test_many_threads_share_one_connection_per_node(
    db: blocking.Database, cluster: FakeCluster
) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: db.increment(b"n"), range(200)))
    assert db.increment(b"n", 0) == 200
    assert len(cluster.connections) <= 3


def test_a_scan_that_is_dropped_half_way_leaves_nothing_pending(db: blocking.Database) -> None:
    db.put_many({b"%03d" % n: b"v" for n in range(10)})
    rows = db.scan()
    assert next(rows)[0] == b"000"
    rows.close()
    assert db.status().calls_pending == 0


@pytest.mark.parametrize("where", ["on the loop", "on the way to it"])
def test_scan_that_the_garbage_collector_closes_holds_nobody_up(
    cluster: FakeCluster, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = multiraft.blocking.connect("c1-n1:7000", transport=FakeTransport(cluster))
    database.open()
    database.put_many({b"%03d" % n: b"v" for n in range(10)})
    hand_over = asyncio.run_coroutine_threadsafe

    def collect_and_evaluate(_node: NodeId, _request: object) -> Plan:
        gc.collect()
        return Plan()

    def collect_and_hand_over(
        coroutine: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop
    ) -> Future[object]:
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
        gc.collect()
        return hand_over(coroutine, loop)

    gc.disable()
    try:
        drop_in_a_circle(database.scan())
        if where == "on the loop":
            cluster.intercept = collect_and_evaluate
        else:
            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", collect_and_hand_over)
        # If it hangs it does so for good, so nobody must have to wait for it.
        asking = threading.Thread(target=database.get, args=(b"000",), daemon=True)
        asking.start()
        asking.join(10.0)
        assert not asking.is_alive()
    finally:
        gc.enable()
    database.close()


def drop_in_a_circle(rows: Iterator[tuple[bytes, bytes]]) -> None:
    """Leave a scan that has begun to the garbage collector, as an exception that is kept would."""
    assert next(rows)[0] == b"000"
    circle: list[object] = [rows]
    circle.append(circle)


def test_closing_ends_calls_of_other_threads(cluster: FakeCluster) -> None:
    database = multiraft.blocking.connect("c1-n1:7000", transport=FakeTransport(cluster))
    database.open()
    arrived = threading.Event()

    def intercept(_node: NodeId, _request: object) -> Plan:
        arrived.set()
        return Plan(drop_request=True)

    database.get(b"a")
    cluster.intercept = intercept
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(database.put, b"a", b"1")
        assert arrived.wait(10.0)
        database.close()
        with pytest.raises(errors.StoppedError):
            waiting.result()
    with pytest.raises(errors.StoppedError):
        database.get(b"a")
    database.close()


def test_who_forgets_to_open_a_database_is_told(cluster: FakeCluster) -> None:
    database = multiraft.blocking.connect("c1-n1:7000", transport=FakeTransport(cluster))
    with pytest.raises(errors.RequestError, match="is not open: use `with`"):
        database.get(b"a")
    database.close()
    with pytest.raises(errors.StoppedError):
        database.get(b"a")


def test_a_database_is_opened_once(cluster: FakeCluster) -> None:
    database = multiraft.blocking.connect("c1-n1:7000", transport=SlowTransport(cluster))
    for _ in range(2):
        with pytest.raises((errors.NodeUnavailableError, errors.RequestError)) as raised:
            database.open()
    assert "is opened once" in str(raised.value)


def test_a_database_that_cannot_be_opened_leaves_no_thread(cluster: FakeCluster) -> None:
    before = threading.active_count()
    with (
        pytest.raises(errors.NodeUnavailableError),
        multiraft.blocking.connect("c1-n1:7000", transport=SlowTransport(cluster)),
    ):
        pass
    assert threading.active_count() == before
