"""Which rare situations a run has reached: "sometimes" to the "always" of the invariants.

Purpose
    A test that never reaches a situation says nothing about it. Each probe names one, and counts.
    The tables are in probes_raft, probes_support, probes_ranges, probes_requests and
    probes_garbage; how they are noticed is in probing.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator

from multiraft.sim import (
    probes_garbage,
    probes_raft,
    probes_ranges,
    probes_requests,
    probes_support,
)
from multiraft.sim.cluster import Cluster
from multiraft.sim.probing import Probe, Watching

PROBES: tuple[Probe, ...] = (
    *probes_raft.PROBES,
    *probes_support.PROBES,
    *probes_ranges.PROBES,
    *probes_requests.PROBES,
    *probes_garbage.PROBES,
)


class Counts:
    """How often each situation was seen; all names are there from the beginning."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter({probe.name: 0 for probe in PROBES})
        self._watching = Watching(PROBES, self.seen)
        self.hear = self._watching.hear
        """A listener of the cluster's wiretap."""

    @property
    def reached(self) -> tuple[str, ...]:
        """The names of what was seen at all, in the order of the tables."""
        return tuple(name for name, count in self.seen.items() if count)

    def end(self) -> None:
        """Count no more."""
        self._watching.end()


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count while the body runs; whoever makes a cluster in it lets `hear` listen.

    One at a time: functions are wrapped for the whole process.
    """
    counts = Counts()
    try:
        yield counts
    finally:
        counts.end()


@contextlib.contextmanager
def install(cluster: Cluster) -> Iterator[Counts]:
    """As `counting`, for one cluster; enter before its nodes start, which keep bound methods."""
    with counting() as counts:
        cluster.wiretap.listeners.append(counts.hear)
        try:
            yield counts
        finally:
            cluster.wiretap.listeners.remove(counts.hear)
