"""Groups of keys that lie together in one range, so that a batch over them is atomic.

Purpose
    Say which groups lay in one range until the end. A split may cut a group; then nothing is
    promised of batches over both halves, and its workload must not judge it.
Invariants
    - Ranges never grow together: a group that is whole at the end was whole all the time.
"""

from collections.abc import Iterable, Mapping, Sequence

from multiraft.client.database import Database
from multiraft.model import keys
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.workload import FINAL

CUT = "cut"
"""The function of the operation that notes a group which a split has cut."""


async def note_cuts(db: Database, history: History, groups: Mapping[str, Sequence[str]]) -> None:
    """Note each group, given by its name and keys, that does not lie in one range.

    `db` must have read all of them just before: an addressing record may be older than a split,
    but then `db` was told of it. A group of which that is not certain is noted, too.
    """
    ranges = [info.descriptor for info in await db.admin.ranges(with_status=False)]
    for group, members in groups.items():
        first, last = (keys.PLAIN + key.encode() for key in (min(members), max(members)))
        recorded = next(found for found in ranges if found.contains(first))
        newest = await db.admin.find(recorded.range_id)
        if not (newest.contains(first) and newest.contains(last)):
            history.ok(history.invoke(FINAL, CUT, key=group))


def cut(operations: Iterable[Operation]) -> dict[str, None]:
    """Return the names of the groups that were cut."""
    return {operation.key: None for operation in operations if operation.function == CUT}


def notes(names: Iterable[str]) -> tuple[str, ...]:
    """Return what a verdict says of groups that were cut."""
    return tuple(f"{name} is not judged as one: a split has cut it" for name in names)


def whole(operations: Iterable[Operation]) -> tuple[dict[str, list[Operation]], tuple[str, ...]]:
    """Return the operations of each group that was not cut, and notes on those that were.

    The key of every operation must be a group's name.
    """
    by_group: dict[str, list[Operation]] = {}
    given = tuple(operations)
    apart = cut(given)
    for operation in given:
        if operation.key not in apart:
            by_group.setdefault(operation.key, []).append(operation)
    return by_group, notes(apart)
