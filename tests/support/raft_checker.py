"""What must hold in every run of a Raft group (paper, Figure 3), checked as it happens.

Election safety, log matching, leader completeness, state machine safety, linearizable ReadIndex,
and leases: nothing is served under an older leader at or above the time a newer one started.
"""

from typing import TYPE_CHECKING

from multiraft.ids import Index, ReplicaId, Term
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import Entry
from multiraft.raft.ready import ReadState, Ready
from multiraft.raft.role import Role
from multiraft.sim.group_facts import GroupFacts
from tests.support.raft_disk import Disk

if TYPE_CHECKING:
    from tests.support.raft_simulation import Store


class Checker:
    """One per run; raises AssertionError at the first violation."""

    def __init__(self) -> None:
        self._facts = GroupFacts()
        self._checksums: dict[Index, int] = {}
        self._proposed: dict[tuple[Term, Index], Entry] = {}
        self._reads: dict[int, Index] = {}
        self._served: dict[Term, int] = {}
        self._led_from: dict[Term, int] = {}
        self._terms: dict[tuple[ReplicaId, int], Term] = {}

    @property
    def committed_last(self) -> Index:
        return self._facts.committed_last

    def look(self, replica: ReplicaId, incarnation: int, core: RaftCore, clock: int) -> None:
        """Look at one replica after an event."""
        assert core.applied_index <= core.handed_index <= core.commit_index <= core.last_index
        known = self._terms.get((replica, incarnation), Term(0))
        assert known <= core.term, "terms never go back"
        self._terms[replica, incarnation] = core.term
        if core.role is not Role.LEADER:
            return
        facts = self._facts
        if not facts.is_led(core.term):
            _hold(facts.is_complete(core.term, core.first_index, core.log.term))
            self._lease_start(core.term, clock)
        _hold(facts.leads(core.term, (replica, incarnation)))

    def saw_ready(self, replica: ReplicaId, core: RaftCore, ready: Ready, disk: Disk) -> None:
        """Look at what is about to be written and applied."""
        for position, entry in enumerate(ready.entries):
            if position:
                prev_term: Term | None = ready.entries[position - 1].term
            elif ready.snapshot is not None:
                prev_term = ready.snapshot.term
            else:
                prev_term = disk.term(Index(entry.index - 1))
            _hold(self._facts.writes(entry.term, entry.index, prev_term, entry))
            proposed = self._proposed.get((entry.term, entry.index))
            assert proposed in (None, entry), "an accepted proposal is never altered (S17)"
        for entry in ready.committed:
            _hold(self._facts.writes(entry.term, entry.index, None, entry))
            _hold(self._facts.commits(entry.index, entry.term, core.term))
        if ready.hard_state is not None:
            applied = disk.written.machine.index
            if ready.committed:
                applied = ready.committed[-1].index
            elif ready.snapshot is not None:
                applied = ready.snapshot.index
            assert ready.hard_state.commit_index >= applied, "commit is written before it applies"

    def applied(self, replica: ReplicaId, entry: Entry, checksum: int) -> None:
        """Compare the machine after an entry with what it was elsewhere."""
        known = self._checksums.setdefault(entry.index, checksum)
        assert known == checksum, f"state machine safety: {replica} differs at {entry.index}"

    def proposed(self, entry: Entry) -> None:
        """Remember what a leader accepted."""
        self._proposed[entry.term, entry.index] = entry

    def read_began(self, context: int) -> None:
        """Whatever is committed now must be seen by this read."""
        self._reads[context] = self.committed_last

    def confirmed(self, reads: tuple[ReadState, ...]) -> None:
        """Check confirmed reads against what was committed when they began."""
        for read in reads:
            assert read.index >= self._reads.pop(read.context), "a stale read was confirmed"

    def served(self, term: Term, timestamp: int) -> None:
        """A leader of `term` read or wrote at `timestamp`."""
        for newer, start in self._led_from.items():
            if newer > term:
                assert timestamp < start, f"lease: {term} served {timestamp}, {newer} began {start}"
        self._served[term] = max(timestamp, self._served.get(term, 0))

    def _lease_start(self, term: Term, clock: int) -> None:
        for older, timestamp in self._served.items():
            if older < term:
                assert timestamp < clock, f"lease: {older} served {timestamp}, {term} began {clock}"
        self._led_from[term] = clock

    def at_rest(self, members: "list[Store]") -> None:
        """After healing: all members hold and applied the same."""
        states = [store.disk.written for store in members]
        last = {
            (store.disk.last_index(), state.machine)
            for store, state in zip(members, states, strict=True)
        }
        assert len(last) == 1, f"members differ at rest: {last}"
        [(last_index, machine)] = last
        assert last_index == machine.index >= self.committed_last, "everything committed is applied"


def _hold(problem: str | None) -> None:
    assert problem is None, problem
