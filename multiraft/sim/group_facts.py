"""What must be true of one Raft group, whoever looks at it: the facts so far, and what contradicts.

Purpose
    Collect who led which term, which entries were written, which were committed, who voted for
    whom, over all replicas and all their lives. Each method takes in one observation and returns
    what it contradicts, or None.
Invariants, of the group
    - Election safety: one life of one replica leads a term (rule S1).
    - Log matching: one (term, index) has one content and one term before it.
    - State machine safety: one entry is committed at an index.
    - Leader completeness: a new leader has every entry that was known committed in a lower term.
    - A replica votes once in a term.
    - Behind the floor, up to which every log is cut, nothing is written or committed any more: so
      what is known of that is forgotten, and to see any of it again is a contradiction.
Caveats
    Who led and voted is kept for good: elections are few.
Source
    Raft paper, Figure 3.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from multiraft.ids import Index, ReplicaId, Term


class Committed(NamedTuple):
    """The term of a committed entry, and the lowest term in which a replica knew of it."""

    term: Term
    seen_in_term: Term


class GroupFacts:
    """One per group and run."""

    __slots__ = ("_entries", "_floor", "_leaders", "_votes", "committed", "committed_last")

    def __init__(self) -> None:
        self._leaders: dict[Term, Hashable] = {}
        self._entries: dict[tuple[Term, Index], tuple[Term | None, object]] = {}
        self._votes: dict[tuple[ReplicaId, Term], ReplicaId] = {}
        self.committed: dict[Index, Committed] = {}
        self.committed_last = Index(0)
        self._floor = Index(0)

    @property
    def remembered(self) -> int:
        """How many entries, and commits of entries, are remembered."""
        return len(self._entries) + len(self.committed)

    def forget_below(self, floor: Index) -> None:
        """Every log is cut at `floor` or behind it, whatever crashes and whatever arrives late.

        That the entry at the floor is committed is kept: a log knows the term at which it is cut.
        """
        if floor <= self._floor:
            return
        self._floor = floor
        self._entries = {place: of for place, of in self._entries.items() if place[1] > floor}
        self.committed = {index: of for index, of in self.committed.items() if index >= floor}

    def leads(self, term: Term, who: Hashable) -> str | None:
        """`who`, a life of a replica, leads `term`."""
        known = self._leaders.setdefault(term, who)
        return None if known == who else f"election safety: {known} led term {term}, and {who}"

    @property
    def terms_led(self) -> list[Term]:
        """The terms in which a leader was seen."""
        return sorted(self._leaders)

    def is_led(self, term: Term) -> bool:
        """Whether a leader of that term was seen."""
        return term in self._leaders

    def is_complete(
        self, term: Term, first_index: Index, term_at: Callable[[Index], Term | None]
    ) -> str | None:
        """The new leader of `term` has a log that begins at `first_index`."""
        for index, (entry_term, seen_in_term) in self.committed.items():
            if index >= first_index - 1 and seen_in_term < term:
                found = term_at(index)
                if found != entry_term:
                    return (
                        f"leader completeness: the leader of term {term} has {found} at {index}, "
                        f"where {entry_term} is committed"
                    )
        return None

    def writes(
        self, term: Term, index: Index, prev_term: Term | None, content: object
    ) -> str | None:
        """A replica has this entry; `prev_term` is None where it is not known any more."""
        if index <= self._floor:
            return f"an entry is written at {index}, though every log was cut at {self._floor}"
        known = self._entries.get((term, index))
        if known is None:
            self._entries[term, index] = (prev_term, content)
            return None
        known_prev, known_content = known
        if known_content != content:
            return f"log matching: two entries of term {term} at {index}"
        if known_prev is None:
            self._entries[term, index] = (prev_term, content)
        elif prev_term is not None and prev_term != known_prev:
            return (
                f"log matching: before ({term}, {index}) is an entry of term {known_prev}, "
                f"and one of {prev_term}"
            )
        return None

    def commits(self, index: Index, term: Term, seen_in_term: Term) -> str | None:
        """A replica knows in `seen_in_term` that the entry of `term` at `index` is committed."""
        if index < self._floor:
            return f"a log has {index} as committed, though every log was cut at {self._floor}"
        known = self.committed.get(index)
        if known is None:
            self.committed[index] = Committed(term, seen_in_term)
            self.committed_last = max(index, self.committed_last)
            return None
        if known.term != term:
            return f"state machine safety: at {index} {known.term} is committed, and {term}"
        if seen_in_term < known.seen_in_term:
            self.committed[index] = Committed(term, seen_in_term)
        return None

    def votes(self, voter: ReplicaId, term: Term, candidate: ReplicaId) -> str | None:
        """A vote left its voter."""
        known = self._votes.setdefault((voter, term), candidate)
        if known == candidate:
            return None
        return f"replica {voter} voted in term {term} for {known}, and for {candidate}"

    def lost(
        self,
        acknowledged: tuple[Term, Index],
        first_index: Index,
        term_at: Callable[[Index], Term | None],
    ) -> str | None:
        """A replica that acknowledged `index` to the leader of `term` has restarted with this log.

        What was known as committed by that term is there for good; anything else may have been
        replaced since.
        """
        term, last = acknowledged
        for index in range(max(first_index, 1), min(last, self.committed_last) + 1):
            known = self.committed.get(Index(index))
            if known is not None and known.seen_in_term <= term:
                found = term_at(Index(index))
                if found != known.term:
                    return f"acknowledged and committed at {index}: {known.term}, now {found}"
        return None
