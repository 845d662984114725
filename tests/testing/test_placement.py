"""A simulated cluster whose replicas stay on one host is found out."""

from pathlib import Path

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster import allocator
from multiraft.ids import NodeId
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.testing import runner, spec
from multiraft.testing.placement import Placement
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.cluster import cluster_test

HOSTS = spec.load("hosts")
CALM = msgspec.structs.replace(HOSTS, fault=(), seconds=1.0)


def test_replicas_have_hosts_of_their_own_in_the_end() -> None:
    result = runner.run(msgspec.structs.replace(HOSTS, seconds=6.0), 3)
    assert result.ok, result.problems
    assert result.faults["kill-host"] > 0


def test_an_allocator_that_leaves_replicas_on_one_host_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allocator, "can_improve", lambda *_: False)
    (problem,) = runner.run(CALM, 1).problems
    assert "placement: after" in problem
    assert "voters still share hosts: {1: {'host=a': (1, 2)}" in problem


@cluster_test(nodes=4, localities=("host=a", "host=a", "host=b", ""))
async def test_hosts_may_be_shared_by_ranges_with_more_voters_than_hosts(
    cluster: Cluster, db: Database
) -> None:
    placement = Placement(cluster, 10.0)
    shared = {"host=a": (1, 2)}
    assert placement.misplaced() == {FIRST_RANGE_ID: shared, USER_RANGE_ID: shared}
    await cluster.crash(4)
    assert placement.misplaced() == {}, "two hosts are left"
    await cluster.restart(4)
    await placement.wait()
    assert placement.misplaced() == {}
    await db.admin.change_replicas(USER_RANGE_ID, tuple(NodeId(n) for n in range(1, 5)))
    assert placement.misplaced() == {}


@cluster_test(nodes=4, localities=("host=a", "host=b", "host=a", "zone=x"))
async def test_a_target_tells_which_nodes_share_a_host(cluster: Cluster, db: Database) -> None:
    assert SimulatedTarget(cluster, db).hosts == ((1, 3), (2,), (4,))


@pytest.mark.parametrize(
    ("localities", "named"),
    [('["host=a"]', "1 localities are given for 3"), ('["host=a,zone=b"]', "goes on after 'host'")],
)
def test_a_spec_tells_where_all_its_nodes_are_or_none(
    tmp_path: Path, localities: str, named: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        f'name = "own"\nabout = "."\nlocalities = {localities}\n[[workload]]\nkind = "register"\n'
    )
    with pytest.raises(errors.ConfigError, match=named):
        spec.load(str(file))
