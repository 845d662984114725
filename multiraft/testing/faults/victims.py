"""Whom a fault hurts."""

import asyncio
import random

from multiraft import errors
from multiraft.ids import RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.testing.target import Target

ASK_S = 2.0
"""How long a hurt cluster may take to tell who leads, or which keys it has."""
ADMIN = "admin"
"""The name of the client in a simulated network that faults themselves use: it is left alone."""
KEYS_MAX = 200


def simulation(target: Target) -> Cluster:
    """Return the simulated cluster, for faults that need one."""
    cluster = target.simulated
    assert cluster is not None, "this fault needs a simulated cluster"
    return cluster


def up(target: Target) -> list[int]:
    """Return the nodes that are up, frozen ones included."""
    return [n for n in target.numbers if target.is_up(n)]


def draw(target: Target, rng: random.Random, count: int = 1) -> list[int]:
    """Return so many nodes that are up, or all of them if there are fewer."""
    found = up(target)
    return rng.sample(found, min(count, len(found)))


async def draw_leader(target: Target, rng: random.Random) -> list[int]:
    """Return the node that leads a random range, or nobody if none is known to."""
    cluster = target.simulated
    if cluster is None:
        return await _ask_for_leader(target, rng)
    drawn = draw_led_range(cluster, rng)
    return [] if drawn is None else [drawn[1].number]


def draw_led_range(cluster: Cluster, rng: random.Random) -> tuple[RangeId, Member] | None:
    """Return a random range and its leader, or None if nobody leads that one."""
    ids = cluster.range_ids()
    range_id = rng.choice(ids) if ids else None
    leader = None if range_id is None else cluster.leader(range_id)
    return None if range_id is None or leader is None else (range_id, leader)


async def _ask_for_leader(target: Target, rng: random.Random) -> list[int]:
    try:
        async with asyncio.timeout(ASK_S):
            found = await target.db.admin.ranges()
    except (TimeoutError, errors.MultiraftError):
        return []
    leader = rng.choice(found).leader
    return [leader] if leader in target.numbers else []


async def ranges(target: Target) -> list[RangeDescriptor]:
    """Return all ranges, or none if the cluster cannot tell which it has."""
    try:
        async with asyncio.timeout(ASK_S):
            found = await target.db.admin.ranges(with_status=False)
    except (TimeoutError, errors.MultiraftError):
        return []
    return [info.descriptor for info in found]


async def draw_key(target: Target, rng: random.Random) -> bytes | None:
    """Return a random one of the first keys that the cluster holds; None if it tells of none."""
    try:
        rows = [
            row
            async for page in target.db.scan_pages(limit=KEYS_MAX, deadline_s=ASK_S)
            for row in page
        ]
    except errors.MultiraftError:
        return None
    return rng.choice(rows)[0] if rows else None
