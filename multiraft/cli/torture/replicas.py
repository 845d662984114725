"""Whether all replicas of all ranges are equal: by what nodes tell, and by what they have on disk.

Invariants
    - Directories are read only while no node runs on them.
    - Replicas are compared at one applied index: descriptor, statistics, clock floor, and every
      byte of their span.
"""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import xxhash

from multiraft import config
from multiraft.client.database import Database
from multiraft.ids import RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.ranges import snapshot, state
from multiraft.storage.rocks import RocksEngine

_REST_S = 0.25


class StoredRange(NamedTuple):
    """One replica on disk: where it is, and a digest of everything in its span."""

    directory: Path
    descriptor: RangeDescriptor
    applied: state.AppliedState
    digest: str


class Comparison(msgspec.Struct, frozen=True):
    """What was compared, and how replicas differed: sentences, none if they are equal."""

    ranges: int
    pairs: int
    """Replicas that were compared with another of their range."""
    pairs_expected: int
    """As many as there are if every replica that a descriptor names is at one index."""
    differences: tuple[str, ...]


async def come_to_rest(db: Database) -> int:
    """Return once all replicas have applied the same and nothing more; how many ranges there are.

    A read may have met what a transaction left behind, which is resolved the moment after.
    """
    before = None
    while (now := await settled(db)) is None or now != before:
        before = now
        await asyncio.sleep(_REST_S)
    return len(now)


async def settled(db: Database) -> dict[RangeId, int] | None:
    """Return the index that each range's replicas have applied, if all have applied all."""
    infos = await db.admin.ranges(with_status=False)
    applied: dict[RangeId, int] = {}
    for info in infos:
        index = await _settled_at(db, info.descriptor)
        if index is None:
            return None
        applied[info.descriptor.range_id] = index
    return applied


async def _settled_at(db: Database, descriptor: RangeDescriptor) -> int | None:
    seen: set[int | None] = set()
    for replica in descriptor.replicas:
        status = await db.admin.replica_status(descriptor.range_id, replica.node_id)
        seen |= {status["applied_index"], status["log_last_index"]} if status else {None}
    return seen.pop() if len(seen) == 1 else None


def compare(directories: Iterable[Path]) -> Comparison:
    """Compare replicas of one range at one applied index."""
    seen: dict[tuple[RangeId, int], StoredRange] = {}
    descriptors: dict[RangeId, RangeDescriptor] = {}
    pairs = 0
    differences: list[str] = []
    for directory in directories:
        for found in stored_ranges(directory):
            newest = descriptors.setdefault(found.descriptor.range_id, found.descriptor)
            if found.descriptor.generation > newest.generation:
                descriptors[newest.range_id] = found.descriptor
            where = (found.descriptor.range_id, int(found.applied.index))
            other = seen.setdefault(where, found)
            if other is not found:
                pairs += 1
                differences += _differences(other, found)
    expected = sum(len(descriptor.replicas) - 1 for descriptor in descriptors.values())
    return Comparison(len(descriptors), pairs, expected, tuple(differences))


def _differences(one: StoredRange, other: StoredRange) -> Iterator[str]:
    where = (
        f"r{one.descriptor.range_id} at index {one.applied.index} in {one.directory} and "
        f"{other.directory}"
    )
    for name, is_equal in (
        ("descriptors", one.descriptor == other.descriptor),
        ("data", one.digest == other.digest),
        ("statistics", one.applied.stats == other.applied.stats),
        ("clock floors", one.applied.clock_floor == other.applied.clock_floor),
    ):
        if not is_equal:
            yield f"different {name}: {where}"


def stored_ranges(directory: Path) -> Iterator[StoredRange]:
    """Yield all replicas of a node that does not run."""
    engine = RocksEngine.open(directory, config.StorageConfig())
    try:
        for found in state.stored_replicas(engine):
            if found.state is None:
                continue
            digest = xxhash.xxh3_128()
            view = engine.view()
            for key, value in snapshot.rows_of(view, engine.data, found.state.descriptor):
                digest.update(len(key).to_bytes(4, "big") + key + value)
            view.close()
            yield StoredRange(
                directory, found.state.descriptor, found.state.applied, digest.hexdigest()
            )
    finally:
        engine.close()
