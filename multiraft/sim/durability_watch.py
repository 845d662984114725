"""Which entries are on which disk for good, and whether those who count them may.

Purpose
    Follow every entry from the batch that writes it to the sync that makes it durable. Lost entries
    are found after a crash (disk_watch); this finds what a crash could have lost.
Invariants
    - Who acknowledges an entry has it durably (rules S14, A1).
    - What a leader commits is durable on a majority of each half of its configuration, the leader
      being counted like anybody else.
    - Of what lies before the start of a log for good nothing is remembered: it counts as durable
      there, and entries are written behind it alone.
"""

from collections.abc import Callable, Collection

from multiraft.ids import Index, RangeId, Term
from multiraft.raft.storage import LogStorage
from multiraft.ranges.replica import Replica

Report = Callable[[RangeId, str | None], None]
Place = tuple[int, RangeId]
"""A node and a range."""
Unsynced = list[tuple[Place, Index, Term]]

_CUT = Term(-1)
"""Stands for the term of an index behind which the log begins."""


class _Log:
    """One replica's entries, by index: their terms as written, and as synced."""

    __slots__ = ("begins_after", "covered", "durable", "written")

    def __init__(self) -> None:
        self.written: dict[Index, Term] = {}
        self.durable: dict[Index, Term] = {}
        self.covered = Index(0)
        """All up to here was durable when the node started, or lies before the durable log."""
        self.begins_after = Index(0)
        """What the log has been cut at, be that durable or not."""

    def cut(self, index: Index) -> None:
        """Everything up to `index` is gone from the log, for good."""
        self.covered = max(self.covered, index)
        for terms in (self.written, self.durable):
            for gone in [each for each in terms if each <= index]:
                del terms[gone]

    def has(self, index: Index, term: Term) -> bool:
        return index <= self.covered or self.durable.get(index) == term


class DurabilityWatch:
    """One per cluster."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._logs: dict[Place, _Log] = {}
        self._unsynced: dict[int, Unsynced] = {}

    def start(self, number: int, ranges: Collection[RangeId]) -> None:
        """A node is about to start, with replicas of `ranges`.

        What it has is durable, and `found` tells what that is. A disk that cannot be read may keep
        the node from coming that far; what had been synced to it stays durable nonetheless.
        """
        self._unsynced[number] = []
        for place in list(self._logs):
            if place[0] == number and place[1] not in ranges:
                del self._logs[place]

    def found(self, place: Place, stored: LogStorage) -> None:
        """A node starts with a replica that has this log."""
        self._logs[place] = log = _Log()
        log.covered = stored.last_index()
        for index in map(Index, range(stored.first_index(), log.covered + 1)):
            term = stored.term(index)
            assert term is not None, "it is in the log"
            log.written[index] = term

    def forget(self, place: Place) -> None:
        """The replica was destroyed."""
        self._logs.pop(place, None)

    def wrote(self, place: Place, index: Index, term: Term) -> None:
        """An entry was written."""
        log = self._log(place)
        log.written[index] = term
        log.covered = min(log.covered, Index(index - 1))
        self._unsynced[place[0]].append((place, index, term))

    def term_written(self, place: Place, index: Index) -> Term | None:
        """Return the term of the entry last written at `index`; None if it is not known, or cut."""
        log = self._logs.get(place)
        return None if log is None or index <= log.begins_after else log.written.get(index)

    def cut(self, place: Place, index: Index) -> None:
        """The log begins after `index` from now on: it was shortened, or reset for a snapshot."""
        log = self._log(place)
        log.begins_after = max(log.begins_after, index)
        self._unsynced[place[0]].append((place, index, _CUT))

    def take(self, number: int) -> Unsynced:
        """Return what a sync that begins now makes durable."""
        covered, self._unsynced[number] = self._unsynced[number], []
        return covered

    def synced(self, covered: Unsynced) -> None:
        """That sync has ended well."""
        for place, index, term in covered:
            log = self._log(place)
            if term == _CUT:
                log.cut(index)
            else:
                log.durable[index] = term

    @property
    def remembered(self) -> int:
        """How many entries are remembered."""
        return sum(len(log.written) for log in self._logs.values())

    def acknowledges(self, place: Place, term: Term, index: Index) -> None:
        """A replica tells the leader of `term` that it has everything up to `index`."""
        log = self._logs.get(place) or _Log()
        written = log.written.get(index)
        if written is None:
            if index > log.covered:
                self._report(place[1], f"n{place[0]} acknowledges {index}, which it does not have")
        elif written <= term and not log.has(index, written):
            problem = f"n{place[0]} acknowledges {index} of term {written}, which is not synced"
            self._report(place[1], problem)

    def commits(self, number: int, replica: Replica, index: Index, term: Term) -> None:
        """A leader is the first to know that `index` is committed."""
        configuration = replica.core.configuration
        for voters in (configuration.voters, configuration.outgoing):
            having = 0
            for voter in voters:
                log = self._logs.get((replica.node_of(voter) or 0, replica.range_id))
                having += log is not None and log.has(index, term)
            if voters and having <= len(voters) // 2:
                self._report(
                    replica.range_id,
                    f"n{number} commits {index} of term {term}, which {having} of {len(voters)} "
                    "have durably",
                )

    def _log(self, place: Place) -> _Log:
        log = self._logs.get(place)
        if log is None:
            log = self._logs[place] = _Log()
        return log
