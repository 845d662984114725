"""Between two rounds what is over is forgotten, and only that."""

import msgspec

from multiraft.client.database import Database
from multiraft.config import RangesConfig
from multiraft.ids import Index, Term
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import FAST, Cluster
from multiraft.storage import layout
from tests.support.cluster import cluster_test

TIDY = msgspec.structs.replace(
    FAST,
    ranges=RangesConfig(log_keep_bytes=256, gc_ttl_s=1.0),
)
PUTS = 40


async def work(cluster: Cluster, db: Database, name: bytes = b"k") -> None:
    """Write keys, remove them, and wait until they are collected everywhere."""
    for number in range(PUTS):
        await db.put(b"%b%03d" % (name, number), b"v")
        await db.get(b"%b%03d" % (name, number))
    await db.delete_range(b"k", b"l")
    low, high = layout.span(layout.VERSION, b"\x10k", b"\x10l")
    await cluster.until(
        lambda: all(m.engine.first(low, high, m.engine.data) is None for m in cluster.running()),
        within_s=300.0,
    )
    await cluster.until_applied()


def end_round(cluster: Cluster) -> int:
    """Return how much is remembered after the round."""
    cluster.invariants.forgetting.between_rounds(cluster.running())
    return cluster.invariants.remembered


@cluster_test(config=TIDY)
async def test_a_round_costs_as_much_memory_as_the_one_before(
    cluster: Cluster, db: Database
) -> None:
    remembered: list[int] = []
    for number in range(6):
        await work(cluster, db, b"k%d." % number)
        remembered.append(end_round(cluster))
    assert max(remembered[3:]) < remembered[2] + PUTS
    assert not cluster.invariants.violations


@cluster_test(config=TIDY)
async def test_what_is_over_now_is_forgotten_a_round_later(cluster: Cluster, db: Database) -> None:
    await work(cluster, db)
    before = cluster.invariants.remembered
    assert end_round(cluster) == before
    assert end_round(cluster) < before / 2


@cluster_test(config=TIDY)
async def test_the_longest_log_and_the_lowest_term_count(cluster: Cluster, db: Database) -> None:
    await work(cluster, db)
    follower = cluster.followers()[0].replica()
    cut_at = follower.log._truncated_index
    follower.log._truncated_index = Index(5)
    floor = cluster.invariants.facts(USER_RANGE_ID)
    end_round(cluster)
    end_round(cluster)
    assert floor._floor == 5
    follower.log._truncated_index = cut_at
    end_round(cluster)
    assert floor._floor == 5, "it had entries between the rounds before"
    end_round(cluster)
    assert floor._floor == min(each.log.first_index() - 1 for each in cluster.replicas())
    assert floor._floor > 5


@cluster_test(config=TIDY)
async def test_no_read_is_forgotten_while_a_lock_is_on_a_disk(
    cluster: Cluster, db: Database
) -> None:
    await work(cluster, db)
    engine = cluster.followers()[0].engine
    laid, resolved = engine.new_batch(), engine.new_batch()
    laid.put(layout.lock_key(b"\x10other"), b"", engine.data)
    resolved.delete(layout.lock_key(b"\x10other"), engine.data)
    engine.write(laid)
    for _ in range(3):
        end_round(cluster)
    assert cluster.invariants.reads.remembered > PUTS
    engine.write(resolved)
    end_round(cluster)
    end_round(cluster)
    assert cluster.invariants.reads.remembered < PUTS


@cluster_test(config=TIDY)
async def test_an_entry_that_comes_after_its_time_is_found(cluster: Cluster, db: Database) -> None:
    await work(cluster, db)
    end_round(cluster)
    end_round(cluster)
    leader = cluster.leader()
    assert leader is not None
    index, term = Index(leader.replica().log.first_index() - 1), Term(1)
    batch = leader.engine.new_batch()
    key = USER_RANGE_ID.to_bytes(8, "big") + b"\x03" + index.to_bytes(8, "big")
    batch.put(key, term.to_bytes(8, "big") + b"\x01late", leader.engine.raft)
    leader.engine.write(batch)
    assert f"an entry is written at {index}" in cluster.invariants.violations[0]
    cluster.invariants.violations.clear()
