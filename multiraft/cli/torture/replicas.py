"""Whether all replicas of all ranges are equal: by what nodes tell, and by what they have on disk.

Invariants
    - Directories are read only while no node runs on them.
    - Replicas are compared at one applied index: descriptor, statistics, clock floor, and every
      byte of their span.
"""

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


async def settled(db: Database) -> int | None:
    """Return how many ranges there are, if all replicas of all have applied the same and all."""
    infos = await db.admin.ranges(with_status=False)
    for info in infos:
        if not await _is_settled(db, info.descriptor):
            return None
    return len(infos)


async def _is_settled(db: Database, descriptor: RangeDescriptor) -> bool:
    found = [
        await db.admin.replica_status(descriptor.range_id, replica.node_id)
        for replica in descriptor.replicas
    ]
    seen = {
        (status["applied_index"], status["log_last_index"]) if status else None for status in found
    }
    return len(seen) == 1 and None not in seen


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
