import pytest

from multiraft import errors
from multiraft.ids import NodeId, RangeId
from multiraft.model import keys
from multiraft.model.requests import (
    AdminChangeReplicas,
    BatchRequest,
    NodeProfile,
    NodeStatus,
    RangeStatus,
)
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)


def test_ranges_are_listed_with_the_status_of_their_leaders() -> None:
    async def main(bench: Bench) -> None:
        ranges = await bench.db.admin.ranges()
        assert [r.descriptor.start for r in ranges] == [b"", b"\x10", b"\x10h", b"\x10p"]
        assert [r.leader for r in ranges] == [N1, N2, N3, N1]
        for info in ranges:
            assert info.status is not None
            assert info.status["asked"] == info.leader, "the leader itself was asked"

    clients.run(main)


def test_a_range_whose_leader_is_silent_is_listed_by_what_another_replica_knows() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda node, request: (
            Plan(drop_request=True)
            if node == N2 and isinstance(request.operations[0], RangeStatus)
            else EVALUATE
        )
        info = (await bench.db.admin.ranges())[1]
        assert info.leader == N2
        assert info.status is not None
        assert info.status["asked"] != N2
        assert bench.loop.time() <= 4.1

    clients.run(main)


def test_ranges_without_status_ask_no_replica() -> None:
    async def main(bench: Bench) -> None:
        await bench.db.get(b"a")
        ranges = await bench.db.admin.ranges(with_status=False)
        assert [(r.leader, r.status) for r in ranges][:2] == [(N1, None), (N2, None)]
        assert bench.cluster.sent(RangeStatus) == []

    clients.run(main)


def test_split_returns_both_halves_and_the_client_knows_them() -> None:
    async def main(bench: Bench) -> None:
        left, right = await bench.db.admin.split(b"d")
        assert (left.start, left.end, right.start) == (b"\x10", b"\x10d", b"\x10d")
        known = bench.router.addressing.cache.lookup(keys.PLAIN + b"e")
        assert known is not None
        assert known.descriptor == right
        assert (await bench.db.admin.split(b"d"))[1] == right, "a boundary already"

    clients.run(main)


def test_transfer_moves_the_leader() -> None:
    async def main(bench: Bench) -> None:
        moved = await bench.db.admin.transfer(RangeId(3), N1)
        assert moved.range_id == 3
        assert bench.cluster.ranges[RangeId(3)].leader == N1

    clients.run(main)


def test_change_replicas_names_the_generation_it_starts_from() -> None:
    async def main(bench: Bench) -> None:
        before = bench.cluster.ranges[RangeId(2)].descriptor.generation
        after = await bench.db.admin.change_replicas(RangeId(2), (NodeId(4), N1))
        assert [r.node_id for r in after.replicas] == [4, 1]
        [change] = {r.operations[0] for _, r in bench.cluster.sent(AdminChangeReplicas)}
        assert change == AdminChangeReplicas((NodeId(4), N1), before)

    clients.run(main, nodes=4)


def test_change_replicas_holds_for_a_range_that_has_changed_meanwhile() -> None:
    async def main(bench: Bench) -> None:
        before = (await bench.db.admin.find(RangeId(2))).generation
        changes = 0

        def meddle(_node: NodeId, request: BatchRequest) -> Plan:
            nonlocal changes
            if isinstance(request.operations[0], AdminChangeReplicas) and changes < 2:
                changes += 1
                bench.cluster.move(RangeId(2), (N1, N2, N3))
            return EVALUATE

        bench.cluster.intercept = meddle
        after = await bench.db.admin.change_replicas(RangeId(2), (NodeId(4), N1))
        assert [r.node_id for r in after.replicas] == [4, 1]
        asked = [r.operations[0] for _, r in bench.cluster.sent(AdminChangeReplicas)]
        assert asked == [AdminChangeReplicas((NodeId(4), N1), before + late) for late in range(3)]

    clients.run(main, nodes=4)


def test_change_replicas_gives_up_when_others_never_do() -> None:
    async def main(bench: Bench) -> None:
        def meddle(_node: NodeId, request: BatchRequest) -> Plan:
            if isinstance(request.operations[0], AdminChangeReplicas):
                bench.cluster.move(RangeId(2), (N1, N2, N3))
            return Plan(reply_delay_s=0.1)

        await bench.db.admin.find(RangeId(2))
        bench.cluster.intercept = meddle
        began = bench.loop.time()
        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.admin.change_replicas(RangeId(2), (N1,), deadline_s=2.0)
        assert bench.loop.time() - began < 3.0

    clients.run(main, nodes=4)


def test_an_admin_request_is_not_sent_again_because_it_takes_long() -> None:
    async def main(bench: Bench) -> None:
        await bench.db.get(b"a")
        bench.cluster.intercept = lambda _node, request: (
            Plan(request_delay_s=30.0)
            if isinstance(request.operations[0], AdminChangeReplicas)
            else EVALUATE
        )
        await bench.db.admin.change_replicas(RangeId(2), (N1, N2))
        assert len(bench.cluster.sent(AdminChangeReplicas)) == 1

    clients.run(main)


def test_an_unknown_range_is_refused() -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(errors.AdminRefusedError, match="no range r99"):
            await bench.db.admin.transfer(RangeId(99), N1)

    clients.run(main)


def test_nodes_tell_which_are_reachable() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.stop(N3)
        nodes = await bench.db.admin.nodes()
        assert [(n.node_id, n.is_reachable) for n in nodes] == [(N1, True), (N2, True), (N3, False)]
        assert "down" in nodes[2].reason
        status = await bench.db.admin.status()
        assert (status.cluster_id, status.ranges) == ("c1", 4)

    clients.run(main)


def test_a_node_tells_of_itself_when_asked() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.node_statuses[N2] = {"node_id": 2, "uptime_s": 3.5}
        assert await bench.db.admin.node_status(N2) == {"node_id": 2, "uptime_s": 3.5}
        assert [n.status for n in await bench.db.admin.nodes()][1] == {
            "node_id": 2,
            "uptime_s": 3.5,
        }
        [node, *_] = [node for node, _ in bench.cluster.sent(NodeStatus)]
        assert node == N2, "nobody else was asked"

    clients.run(main)


def test_a_node_that_keeps_silent_is_given_up_after_two_seconds() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
        with pytest.raises(errors.NodeUnavailableError, match="n2 is not reachable"):
            await bench.db.admin.node_status(N2)
        assert bench.loop.time() <= 2.1

    clients.run(main)


def test_nodes_are_profiled_side_by_side_and_one_that_is_down_says_so() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.profiles[N2] = {"node_id": 2, "requests": 7}
        bench.cluster.stop(N3)
        bench.cluster.intercept = lambda _node, _request: Plan(reply_delay_s=10.0)
        began = bench.loop.time()
        found = await bench.db.admin.profiles(10.0)
        assert bench.loop.time() - began < 11.0
        told = [info.profile for info in found]
        assert told == [{"node_id": 1}, {"node_id": 2, "requests": 7}, None]
        assert "down" in found[2].reason
        asked = [request.operations for _, request in bench.cluster.sent(NodeProfile)]
        assert asked == [(NodeProfile(10_000),)] * 2
        assert [info.node_id for info in await bench.db.admin.profiles(1.0, N2)] == [N2]
        with pytest.raises(errors.AdminRefusedError, match="no node n9"):
            await bench.db.admin.profiles(1.0, NodeId(9))

    clients.run(main)


def test_a_profile_that_no_node_would_take_is_refused_as_a_whole() -> None:
    async def main(bench: Bench) -> None:
        refusal = errors.RequestError("too long")
        bench.cluster.intercept = lambda _node, _request: Plan(refusal=refusal)
        with pytest.raises(errors.RequestError, match="too long"):
            await bench.db.admin.profiles(100.0)

    clients.run(main)


def test_the_cluster_is_shown_when_its_addressing_records_cannot_be_read() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = lambda _node, request: (
            EVALUATE if isinstance(request.operations[0], NodeStatus) else Plan(drop_request=True)
        )
        status = await bench.db.admin.status()
        assert status.ranges is None
        assert all(node.is_reachable for node in status.nodes)
        assert bench.loop.time() <= 2.5

    clients.run(main)
