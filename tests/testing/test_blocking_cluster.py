"""The cluster for tests without asyncio."""

import inspect
import threading

import pytest

from multiraft import errors
from multiraft.testing import BlockingCluster, Cluster, MisuseError


def test_a_crash_loses_nothing_that_was_acknowledged() -> None:
    before = threading.active_count()
    with BlockingCluster() as cluster:
        with cluster.connect() as db:
            db.put(b"answer", b"42")
            leader = cluster.leader(b"answer")
            assert leader is not None
            cluster.crash(leader)
            assert db.get(b"answer") == b"42"
            assert list(db.scan()) == [(b"answer", b"42")]
            cluster.restart(leader)
            cluster.until_served()
            assert len(db.admin.ranges()) == 2
        with pytest.raises(errors.StoppedError):
            db.get(b"answer")
    assert threading.active_count() == before


def test_the_other_methods_pass_on_what_they_are_given() -> None:
    with BlockingCluster(3, seed=7, localities=("", "", "host=c")) as cluster:
        cluster.split(b"m")
        cluster.transfer(b"z", 2)
        assert cluster.leader(b"z") == 2
        cluster.pause(1)
        cluster.skew(3, 0.1)
        cluster.partition([1], [2, 3])
        cluster.slow_down(link_s=0.001, sync_s=0.001)
        status = cluster.status()
        assert [node.state for node in status.nodes] == ["paused", "up", "up"]
        assert [node.locality for node in status.nodes] == ["", "", "host=c"]
        assert status.nodes[2].clock_offset_s == pytest.approx(0.1, abs=0.01)
        assert len(status.cuts) == 4
        cluster.heal()
        cluster.resume(1)
        assert cluster.nodes == (1, 2, 3)
        assert cluster.addresses == ("n1:7000", "n2:7000", "n3:7000")
        with pytest.raises(MisuseError, match="there is no node 9"):
            cluster.pause(9)


def test_it_has_every_method_of_the_cluster() -> None:
    # `simulated` is of the cluster's own thread.
    missing = {name for name in dir(Cluster) if not name.startswith("_")} - set(
        dir(BlockingCluster)
    )
    assert missing == {"simulated"}
    for kind in (Cluster, BlockingCluster):
        for name, member in inspect.getmembers(kind, inspect.isroutine):
            assert name.startswith("_") or member.__doc__, f"{kind.__name__}.{name}"


def test_a_cluster_that_does_not_run_says_so() -> None:
    cluster = BlockingCluster(1)
    with pytest.raises(MisuseError, match="use it with `with`"):
        cluster.status()
    with cluster:
        pass
    with pytest.raises(MisuseError, match="use it with `with`"):
        cluster.status()
    with pytest.raises(MisuseError, match="started before"):
        cluster.__enter__()
    with pytest.raises(MisuseError, match="use it with `with`"):
        cluster.__exit__(None, None, None)


def test_one_that_was_never_started_cannot_end() -> None:
    with pytest.raises(MisuseError, match="use it with `with`"):
        BlockingCluster(1).__exit__(None, None, None)


def test_a_client_that_outlives_its_cluster_says_so_and_closes() -> None:
    with BlockingCluster(1) as cluster:
        db = cluster.connect()
        db.open()
    with pytest.raises(errors.StoppedError):
        db.get(b"k")
    db.close()


def test_a_client_that_is_opened_after_its_cluster_says_so() -> None:
    with BlockingCluster(1) as cluster:
        db = cluster.connect()
    with pytest.raises(errors.StoppedError):
        db.open()
    db.close()
