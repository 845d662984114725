"""Whether a leader may serve a request at a given time.

Purpose
    The leader is the leaseholder: its lease lasts to the largest time T such that a quorum of its
    group supports its store until T. A request is served only if its own timestamp
    plus the maximum clock offset lies below T.
Invariants
    - The rule uses the request's timestamp, read from the clock after the request's bytes were
      received (rule A2). Then a pause at any later point is harmless: a new leader's clock, and so
      every version it writes, lies above T, beyond the uncertainty interval of what is read here.
Source
    docs/architecture/safety-rules.md, "Why they suffice".
"""

from typing import Protocol

from multiraft.ids import Term, Timestamp


class LeaseSource(Protocol):
    """The part of a Raft core that tells its lease."""

    lease_version: int
    term: Term

    def lease_until(self) -> Timestamp:
        """Return the end of the lease, 0 when there is none."""
        ...


class SupportSource(Protocol):
    """The part of the store's liveness that leases depend on."""

    @property
    def version(self) -> int:
        """Grows whenever support from another store changes."""
        ...


class Lease:
    """The end of one replica's lease, computed anew only when something it depends on changed."""

    __slots__ = ("_core", "_core_version", "_end", "_support", "_support_version", "_term")

    def __init__(self, core: LeaseSource, support: SupportSource) -> None:
        self._core = core
        self._support = support
        self._core_version = -1
        self._support_version = -1
        self._end = Timestamp(0)
        self._term = Term(0)
        """The term of which the end is."""

    def end(self) -> Timestamp:
        """Return the end of the lease as known now, 0 when there is none."""
        core = self._core
        support_version = self._support.version
        if core.lease_version != self._core_version or support_version != self._support_version:
            self._end = core.lease_until()
            self._term = core.term
            self._core_version = core.lease_version
            self._support_version = support_version
        return self._end

    @property
    def last_told(self) -> Timestamp:
        """The end as `end` last told it in the core's term, 0 if it has not.

        For observers: what is told is a promise (rule S4), of the leader of that term.
        """
        return self._end if self._term == self._core.term else Timestamp(0)

    def covers(self, timestamp: Timestamp, offset_max: Timestamp) -> bool:
        """Return whether a request at `timestamp` may be served."""
        return timestamp + offset_max < self.end()
