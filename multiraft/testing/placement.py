"""Whether replicas of a simulated cluster come to lie on hosts of their own.

Purpose
    Wait until no range has two voters on one host, and fail when that takes too long.
Invariants
    - It is asked only of ranges with no more voters than there are hosts with a node that runs.
    - What it may take is the queue's interval and what a change of replicas needs, once for each
      change that the worst range needs; and before that the patience with learners, which the
      faults may have left.
"""

from multiraft.cluster.diversity import Topology
from multiraft.cluster.replicate_queue import INTERVAL_S, LEARNERS_PATIENCE_S
from multiraft.ids import NodeId, RangeId
from multiraft.sim.cluster import Cluster

_STEP_S = 0.1


class Placement:
    """See the module. `bound_s` is how long one change of replicas may take."""

    def __init__(self, cluster: Cluster, bound_s: float) -> None:
        self._cluster = cluster
        self._bound_s = bound_s

    async def wait(self) -> None:
        """Return when all voters lie as they should. AssertionError if they do not in time."""
        range_ids = self._cluster.range_ids()
        most = max(len(self._voters(range_id)) for range_id in range_ids)
        change_s = INTERVAL_S + LEARNERS_PATIENCE_S + self._bound_s
        try:
            await self._cluster.until(
                lambda: not self.misplaced(), within_s=most * change_s, step_s=_STEP_S
            )
        except AssertionError:
            raise AssertionError(
                f"after {most * change_s:g} s voters still share hosts: {self.misplaced()}"
            ) from None

    def misplaced(self) -> dict[RangeId, dict[str, tuple[NodeId, ...]]]:
        """Return the voters that share a host, by range, though there are hosts enough."""
        topology = Topology({m.node_id: m.up.locality for m in self._cluster.running()})
        hosts = len(topology.hosts())
        found = {}
        for range_id in self._cluster.range_ids():
            voters = self._voters(range_id)
            shared = topology.shared_hosts(voters)
            if shared and len(voters) <= hosts:
                found[range_id] = shared
        return found

    def _voters(self, range_id: RangeId) -> tuple[NodeId, ...]:
        """Return the nodes that vote in a range, as its newest replica has it."""
        descriptors = [
            (replica.descriptor.generation, replica.voter_nodes)
            for replica in self._cluster.replicas(range_id)
            if replica.descriptor is not None
        ]
        return max(descriptors)[1] if descriptors else ()
