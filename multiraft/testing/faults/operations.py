"""What operators do while all of this happens: split, hand over, add and remove replicas.

Refusals that the documentation of `db.admin` names are part of the noise.
"""

import contextlib
import random

from multiraft import errors
from multiraft.ids import NodeId, RangeId
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.target import Target

REFUSALS = (
    errors.RetryableError,
    errors.AdminRefusedError,
    errors.DeadlineExceededError,
    errors.OutcomeUnknownError,
    errors.DiskFullError,
)


async def change_replicas(
    target: Target,
    range_id: RangeId,
    voters: tuple[NodeId, ...],
    deadline_s: float = victims.ASK_S,
) -> None:
    """Give a range these voters, unless the cluster refuses."""
    with contextlib.suppress(*REFUSALS):
        await target.db.admin.change_replicas(range_id, voters, deadline_s=deadline_s)


class Split(Fault, frozen=True, tag="split", kw_only=True):
    """Splits a range at a key that it holds."""

    ranges_max: int = 16

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        key = await victims.draw_key(target, rng)
        ranges = await victims.ranges(target)
        if key is None or not 0 < len(ranges) < self.ranges_max:
            return
        self.note(target, key.decode("utf-8", "backslashreplace"))
        try:
            await target.db.admin.split(key, deadline_s=victims.ASK_S)
        except REFUSALS:
            return


class Transfer(Fault, frozen=True, tag="transfer", kw_only=True):
    """Hands a random range over to a random node."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        ranges = await victims.ranges(target)
        if not ranges:
            return
        range_id = rng.choice(ranges).range_id
        node = rng.choice(target.numbers)
        self.note(target, f"r{range_id} to n{node}")
        try:
            await target.db.admin.transfer(range_id, NodeId(node), deadline_s=victims.ASK_S)
        except REFUSALS:
            return


class ChangeReplicas(Fault, frozen=True, tag="change-replicas", kw_only=True):
    """Gives a range other replicas `times` in a row: more, fewer, or others, then the old ones.

    With as many nodes as replicas there are none to give; then this only takes one and returns it.
    """

    times: tuple[int, int] = (1, 3)
    deadline_s: float = 5.0

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        ranges = await victims.ranges(target)
        if not ranges:
            return
        descriptor = rng.choice(ranges)
        before = tuple(replica.node_id for replica in descriptor.replicas)
        async with Wounds(target) as wounds:
            range_id, deadline_s = descriptor.range_id, self.deadline_s
            wounds.add(lambda: change_replicas(target, range_id, before, deadline_s))
            for _ in range(rng.randint(*self.times)):
                size = rng.choice((3, 5)) if len(target.numbers) > 3 else 2
                size = min(size, len(target.numbers))
                voters = tuple(NodeId(n) for n in rng.sample(target.numbers, size))
                self.note(target, f"r{range_id} on {' '.join(map(str, voters))}")
                await change_replicas(target, range_id, voters, deadline_s)
