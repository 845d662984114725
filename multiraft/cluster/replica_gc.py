"""Finds replicas that were removed from their range while their store could not be told.

Purpose
    A replica that is a learner, or knows no leader, may be no member any more; so may one that only
    remembers its leader from before a restart, and one that still waits for its state. Now and then
    such ones look up their range in meta; who is not named there by a later generation is
    destroyed.
Invariants
    - Only the addressing record decides, read from the first range; it names a generation at or
      above the one in which the replica was left out before the old members may go (rule L6).
    - A replica that votes and has heard its leader costs nothing. What a restarted one asks its
      leader, and the answer, may be lost, and a leader that left it out will never call.
    - A replica without a descriptor has no generation to compare. The change that gives an ID away
      names its node, so a record with a higher next ID and without the node has left it out since.
"""

import asyncio

from multiraft import errors
from multiraft.client.router import Router
from multiraft.model import encoding, keys
from multiraft.model.descriptor import ReplicaKind
from multiraft.model.requests import Scan, ScanResult
from multiraft.ranges import slices, state
from multiraft.ranges.messages import ReplicaRemoved
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store

INTERVAL_S = 20.0


class ReplicaGc:
    """Runs for the life of a store; see the module."""

    def __init__(self, store: Store, router: Router) -> None:
        self._store = store
        self._router = router

    async def run(self) -> None:
        """Look at all replicas here, again and again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            async for replica in slices.unhurried(self._store.replicas.values()):
                if _is_suspect(replica) and not replica.destroyed:
                    await self._look_at(replica)

    async def _look_at(self, replica: Replica) -> None:
        start = self._start_of(replica)
        span = Scan(keys.META, keys.next_key(keys.meta_key(start)), reverse=True, limit_keys=1)
        try:
            reply = await self._router.execute((span,))
        except errors.MultiraftError:
            return  # The first range cannot be asked now; there is always a next time.
        page = reply.results[0]
        if not isinstance(page, ScanResult) or not page.rows:
            return
        found = encoding.unpack_descriptor(page.rows[1])
        if found.range_id == replica.range_id:
            self._store.removed(ReplicaRemoved(found))

    def _start_of(self, replica: Replica) -> bytes:
        if replica.descriptor is not None:
            return replica.descriptor.start
        placeholder = state.read_placeholder(self._store.context.engine, replica.range_id)
        assert placeholder is not None, "whoever waits for its state has a placeholder"
        return placeholder.start


def _is_suspect(replica: Replica) -> bool:
    descriptor, core = replica.descriptor, replica.core
    if replica.leaseholder is not None:
        return False
    mine = None if descriptor is None else descriptor.replica(replica.replica_id)
    votes = mine is not None and mine.kind is not ReplicaKind.LEARNER
    return not votes or not core.leader or core.leader_unheard
