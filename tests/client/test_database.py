import asyncio
from collections.abc import Callable

import pytest

import multiraft
from multiraft import config, errors
from multiraft.client.batch import Batch
from multiraft.ids import NodeId
from multiraft.model.requests import BatchRequest, Get, Put
from multiraft.net.transport import Connection, Handler, Hello
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import (
    EVALUATE,
    FIRST_RANGE,
    FakeCluster,
    FakeConnection,
    FakeTransport,
    Plan,
)


def test_single_keys() -> None:
    async def main(bench: Bench) -> None:
        db = bench.db
        assert await db.get(b"a") is None
        await db.put(b"a", b"1")
        await db.put(b"", b"the empty key is legal")
        assert (await db.get(b"a"), await db.get(b"")) == (b"1", b"the empty key is legal")
        assert await db.delete(b"a") is True
        assert await db.delete(b"a") is False
        assert [await db.increment(b"n"), await db.increment(b"n", -5)] == [1, -4]

    clients.run(main)


def test_conditions() -> None:
    async def main(bench: Bench) -> None:
        db = bench.db
        await db.put(b"a", b"1", expected=None)
        with pytest.raises(errors.ConditionFailedError) as caught:
            await db.put(b"a", b"2", expected=None)
        assert caught.value.actual == b"1"
        await db.put(b"a", b"2", expected=b"1")
        with pytest.raises(errors.ConditionFailedError):
            await db.delete(b"a", expected=b"1")
        assert await db.get(b"a") == b"2"
        assert await db.delete(b"a", expected=b"2") is True
        assert await db.delete(b"a", expected=None) is False

    clients.run(main)


def test_a_batch_with_a_failed_condition_writes_nothing_in_that_range() -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(errors.ConditionFailedError):
            await bench.db.batch(Batch().put(b"a", b"1").put(b"b", b"1", expected=b"0"))
        assert await bench.db.get(b"a") is None
        assert await bench.db.batch(Batch()) == []

    clients.run(main)


def test_many_keys_are_written_and_read_in_a_few_requests() -> None:
    async def main(bench: Bench) -> None:
        rows = {b"%c%04d" % (letter, n): b"%d" % n for letter in b"ajq" for n in range(1_000)}
        await bench.db.put_many(rows)
        await bench.db.put_many([(b"twice", b"1"), (b"twice", b"2")])
        assert await bench.db.get_many([*rows, b"absent"]) == {**rows, b"absent": None}
        assert await bench.db.get(b"twice") == b"2"
        assert len(bench.cluster.sent(Put)) < 3 * len(rows) / 256 + 20
        assert len({r.id for _, r in bench.cluster.sent(Put)}) >= len(rows) // 256

    clients.run(main)


def test_a_read_of_many_keys_that_answers_too_much_is_cut() -> None:
    async def main(bench: Bench) -> None:
        rows = {b"a%02d" % n: b"v" for n in range(20)}
        await bench.db.put_many(rows)

        def intercept(_node: NodeId, request: BatchRequest) -> Plan:
            if isinstance(request.operations[0], Get) and len(request.operations) > 3:
                too_large = errors.BatchTooLargeError(what="bytes to return", size=9, limit=8)
                return Plan(refusal=too_large)
            return EVALUATE

        bench.cluster.intercept = intercept
        assert await bench.db.get_many(rows) == rows

    clients.run(main)


def test_writing_many_keys_stops_at_the_first_error_and_leaves_nothing_behind() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.get_many([b"%d" % n for n in range(2_000)], deadline_s=1.0)
        assert bench.is_quiet()
        with pytest.raises(errors.ValueTooLargeError):
            await bench.db.put_many([(b"a", b"v" * (2 << 20))])

    clients.run(main)


def test_ping_takes_one_exchange() -> None:
    async def main(bench: Bench) -> None:
        assert await bench.db.ping() == 0.0
        assert bench.db.status().cluster_id == "c1"

    clients.run(main)


def test_the_deadline_of_the_connection_is_for_calls_that_name_none() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
        with pytest.raises(errors.DeadlineExceededError, match=r"within 0\.5 s"):
            await bench.db.get(b"a")
        assert bench.loop.time() < 0.6

    clients.run(main, deadline_s=0.5)


# -- opening -------------------------------------------------------------------------------------


def connect(loop: VirtualLoop, transport: FakeTransport, *addresses: str) -> multiraft.Database:
    return multiraft.connect(
        *addresses, transport=transport, clock=VirtualClock(loop), rng=SeededRng()
    )


def test_any_address_that_answers_is_enough() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = FakeCluster(VirtualClock(loop))
        cluster.down = {NodeId(1)}
        cluster.ranges[FIRST_RANGE].leader = NodeId(2)
        transport = FakeTransport(cluster)
        async with connect(loop, transport, "nowhere:1", "c1-n1:7000", "c1-n3:7000") as db:
            await db.put(b"q", b"1")

    virtual_loop.run(main)


def test_dead_addresses_are_reported_at_once() -> None:
    async def main(loop: VirtualLoop) -> None:
        with pytest.raises(errors.NodeUnavailableError, match="nowhere:1 is not reachable"):
            await connect(loop, FakeTransport(), "nowhere:1").open()
        assert loop.time() == 0.0

    virtual_loop.run(main)


def test_an_error_names_every_address_that_was_tried() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = FakeCluster(VirtualClock(loop))
        cluster.down = {NodeId(1)}
        database = connect(loop, FakeTransport(cluster), "nowhere:2", "c1-n1:7000", "nowhere:1")
        with pytest.raises(errors.NodeUnavailableError) as raised:
            await database.open()
        assert raised.value.message == (
            "the cluster is not reachable: c1-n1:7000: it is down; "
            "nowhere:1, nowhere:2: nobody listens there"
        )

    virtual_loop.run(main)


class Refusing(FakeTransport):
    """Where another cluster's node listens at one address, and nobody at the others."""

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> FakeConnection:
        if address == "elsewhere:1":
            raise errors.WrongClusterError("this is cluster c2, not c1")
        return await super().connect(address, hello, make_handler)


def test_an_address_that_refuses_to_talk_says_more_than_those_that_are_dead() -> None:
    async def main(loop: VirtualLoop) -> None:
        database = connect(loop, Refusing(), "a:1", "elsewhere:1", "z:1")
        with pytest.raises(errors.WrongClusterError):
            await database.open()

    virtual_loop.run(main)


def test_a_database_is_opened_once_and_then_used_and_then_closed() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = FakeCluster(VirtualClock(loop))
        database = connect(loop, FakeTransport(cluster), "c1-n1:7000")
        for use in (database.get(b"k"), database.delete_range()):
            with pytest.raises(errors.RequestError, match="not open"):
                await use
        await database.open()
        with pytest.raises(errors.RequestError, match="opened once"):
            await database.open()
        await database.put(b"q", b"1")
        await database.close()
        with pytest.raises(errors.StoppedError):
            await database.get(b"k")
        with pytest.raises(errors.RequestError, match="opened once"):
            await database.open()

    virtual_loop.run(main)


def test_a_database_that_was_closed_before_it_was_opened_stays_closed() -> None:
    async def main(loop: VirtualLoop) -> None:
        database = connect(loop, FakeTransport(FakeCluster(VirtualClock(loop))), "c1-n1:7000")
        await database.close()
        with pytest.raises(errors.RequestError, match="opened once"):
            await database.open()

    virtual_loop.run(main)


def test_a_database_without_addresses_is_refused() -> None:
    with pytest.raises(errors.ConfigError):
        multiraft.connect()


def test_a_node_of_another_cluster_is_not_talked_to() -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        ours, theirs = FakeCluster(clock), FakeCluster(clock, cluster_id="c2")
        async with connect(loop, FakeTransport(ours, theirs), "c1-n1:7000") as db:
            await db.put(b"a", b"1")
            # Every address of ours is taken over by the other cluster.
            for node_id, peer in db._router.connections.peers.items():
                peer.address = f"c2-n{node_id}:7000"
                ours.stop(node_id)
            with pytest.raises(errors.DeadlineExceededError):
                await db.get(b"a", deadline_s=1.0)
            assert theirs.requests == []

    virtual_loop.run(main)


def test_a_closed_database_says_so() -> None:
    async def main(loop: VirtualLoop) -> None:
        transport = FakeTransport(FakeCluster(VirtualClock(loop)))
        db = connect(loop, transport, "c1-n1:7000")
        await db.open()
        await db.close()
        await db.close()
        with pytest.raises(errors.StoppedError):
            await db.get(b"a")
        with pytest.raises(errors.StoppedError):
            await anext(db.scan())

    virtual_loop.run(main)


def test_opening_that_is_cancelled_leaves_nothing_behind() -> None:
    async def main(loop: VirtualLoop) -> None:
        transport = FakeTransport(FakeCluster(VirtualClock(loop)))
        task = asyncio.ensure_future(connect(loop, transport, "c1-n1:7000").open())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_loop.run(main)


def test_settings_of_connect_reach_the_configuration() -> None:
    db = multiraft.connect(
        "a:1",
        deadline_s=3.0,
        tls_ca_file="ca.pem",
        settings=config.Config(client=config.ClientConfig(backoff_ms_min=7)),
    )
    assert db._settings.client.deadline_s == 3.0
    assert db._settings.client.backoff_ms_min == 7
    assert db._settings.net.tls_ca_file == "ca.pem"
