"""Who waits for whom, as a client puts it together."""

import msgspec

from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.lock_status import LockStatus, RangeLocksStatus, WaiterStatus
from multiraft.model.requests import RangeLocks
from multiraft.model.transaction import TransactionMeta, TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import QueryTransaction
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
ONE, TWO, THREE = ("01" * 16, "02" * 16, "03" * 16)
T0, T1 = Timestamp(0), Timestamp(1)
A, Z = b"\x10a", b"\x10z"
LOCKS = (
    LockStatus(
        A,
        "intent",
        ONE,
        A,
        0,
        9.0,
        T1,
        2.0,
        (
            WaiterStatus(TWO, Z, 1, 8.0, 1.5, T1, "writes"),
            WaiterStatus("", b"", 0, 0.5, 0.5, T0, "reads"),
        ),
    ),
    LockStatus(b"\x10b", "lock", ONE, A, 0, 9.0, T1, 2.0, ()),
)
ELSEWHERE = (
    LockStatus(
        Z, "intent", TWO, Z, 1, 8.0, T1, 3.0, (WaiterStatus(THREE, b"", 0, 1.0, 0.2, T1, "reads"),)
    ),
    LockStatus(b"\x10zz", "claim", "", b"", 0, 0.0, T0, 0.0, ()),
)


def with_locks(bench: Bench) -> None:
    bench.cluster.locks[RangeId(2)] = RangeLocksStatus(RangeId(2), N2, True, True, 2, 2, LOCKS)
    bench.cluster.locks[RangeId(4)] = RangeLocksStatus(RangeId(4), N1, True, False, 5, 1, ELSEWHERE)


def test_every_range_is_asked_at_its_leader() -> None:
    async def main(bench: Bench) -> None:
        with_locks(bench)
        found = await bench.db.admin.locks()
        assert [info.descriptor.range_id for info in found] == [1, 2, 3, 4]
        for info in found:
            told = bench.cluster.locks.get(info.descriptor.range_id)
            leader = bench.cluster.ranges[info.descriptor.range_id].leader
            assert info.status == told or (
                told is None
                and info.status == RangeLocksStatus(info.descriptor.range_id, leader, True)
            )

    clients.run(main)


def test_range_whose_leader_is_silent_has_no_locks_to_show() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda node, request: (
            Plan(drop_request=True)
            if node == N2 and isinstance(request.operations[0], RangeLocks)
            else EVALUATE
        )
        found = await bench.db.admin.locks()
        assert [info.status is None for info in found] == [False, True, False, False]
        assert bench.loop.time() < 2.5

    clients.run(main)


def test_transactions_are_put_together_from_all_ranges_oldest_first() -> None:
    async def main(bench: Bench) -> None:
        with_locks(bench)
        meta = TransactionMeta(bytes.fromhex(ONE), A)
        since = hlc.from_us(hlc.to_us(bench.cluster.now()) - 2_000_000)
        bench.cluster.transactions.records[meta.id] = TransactionRecord(
            meta, TransactionStatus.ABORTED, Timestamp(0), since, Timestamp(1), reason="too slow"
        )
        one, two, three = await bench.db.admin.transactions()
        assert (one.id, two.id, three.id) == (ONE, TWO, THREE)
        assert (one.status, one.reason) == ("aborted", "too slow")
        assert one.silent_s is not None
        assert 2.0 <= one.silent_s < 2.1
        assert (one.locks, one.keys, one.waits) == (2, (A, b"\x10b"), ())
        assert (one.waited_for_by, one.requests_waiting) == ((TWO,), 2)
        assert (two.status, two.silent_s, two.priority, two.age_s) == ("pending", None, 1, 8.0)
        [wait] = two.waits
        assert msgspec.structs.astuple(wait) == (A, ONE, 1.5, "writes")
        assert (two.locks, two.waited_for_by) == (1, (THREE,))
        assert (three.status, three.locks, three.anchor) == ("pending", 0, b"")

    clients.run(main)


def test_record_that_cannot_be_asked_for_is_unknown() -> None:
    async def main(bench: Bench) -> None:
        with_locks(bench)
        bench.cluster.intercept = lambda _node, request: (
            Plan(drop_request=True)
            if isinstance(request.operations[0], QueryTransaction)
            else EVALUATE
        )
        found = await bench.db.admin.transactions()
        assert [info.status for info in found] == ["unknown", "unknown", "pending"]

    clients.run(main)
