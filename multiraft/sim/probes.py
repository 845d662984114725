"""Which rare situations a run has reached: "sometimes" to the "always" of the invariants.

Purpose
    A test that never reaches a situation says nothing about it. Each probe names one, and counts.
    The tables are in probes_raft, probes_support, probes_ranges and probes_requests; how a situation
    is noticed is in probing.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator

from multiraft.sim import probes_raft, probes_ranges, probes_requests, probes_support
from multiraft.sim.cluster import Cluster
from multiraft.sim.probing import Probe, Watching

PROBES: tuple[Probe, ...] = (
    *probes_raft.PROBES,
    *probes_support.PROBES,
    *probes_ranges.PROBES,
    *probes_requests.PROBES,
)


class Counts:
    """How often each situation was seen; all names are there from the beginning."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter({probe.name: 0 for probe in PROBES})

    @property
    def reached(self) -> tuple[str, ...]:
        """The names of what was seen at all, in the order of the tables."""
        return tuple(name for name, count in self.seen.items() if count)


@contextlib.contextmanager
def install(cluster: Cluster) -> Iterator[Counts]:
    """Count while the body runs; enter before the nodes start, which keep bound methods.

    One at a time: functions are wrapped for the whole process.
    """
    counts = Counts()
    watching = Watching(PROBES, counts.seen)
    cluster.wiretap.listeners.append(watching.hear)
    try:
        yield counts
    finally:
        cluster.wiretap.listeners.remove(watching.hear)
        watching.end()
