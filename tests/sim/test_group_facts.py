"""Each law of a Raft group is caught when it is broken, and only then."""

from multiraft.ids import Index, ReplicaId, Term
from multiraft.sim.group_facts import GroupFacts


def log(*terms: int) -> "dict[Index, Term]":
    """Return a log that begins at 1."""
    return {Index(index): Term(term) for index, term in enumerate(terms, 1)}


def commit(facts: GroupFacts, index: int, term: int, seen_in: int) -> str | None:
    return facts.commits(Index(index), Term(term), Term(seen_in))


def test_one_life_leads_a_term() -> None:
    facts = GroupFacts()
    assert facts.leads(Term(6), ("n1", 1)) is None
    assert facts.leads(Term(6), ("n1", 1)) is None
    assert facts.leads(Term(7), ("n2", 1)) is None
    assert "election safety" in (facts.leads(Term(6), ("n2", 1)) or "")
    assert "election safety" in (facts.leads(Term(6), ("n1", 2)) or ""), "another life of the same"


def test_an_entry_has_one_content() -> None:
    facts = GroupFacts()
    assert facts.writes(Term(6), Index(11), Term(5), b"a") is None
    assert facts.writes(Term(6), Index(11), Term(5), b"a") is None
    assert facts.writes(Term(7), Index(11), Term(5), b"b") is None
    assert "two entries" in (facts.writes(Term(6), Index(11), Term(5), b"b") or "")


def test_an_entry_has_one_predecessor_where_it_is_known() -> None:
    facts = GroupFacts()
    assert facts.writes(Term(6), Index(11), None, b"a") is None
    assert facts.writes(Term(6), Index(11), Term(5), b"a") is None
    assert facts.writes(Term(6), Index(11), None, b"a") is None
    assert "before (6, 11)" in (facts.writes(Term(6), Index(11), Term(4), b"a") or "")


def test_one_entry_is_committed_at_an_index() -> None:
    facts = GroupFacts()
    assert commit(facts, 11, 6, 6) is None
    assert commit(facts, 11, 6, 8) is None
    assert "state machine safety" in (commit(facts, 11, 7, 7) or "")


def test_a_new_leader_has_what_was_committed_in_lower_terms() -> None:
    facts = GroupFacts()
    commit(facts, 1, 1, 1)
    commit(facts, 2, 2, 2)
    assert facts.is_complete(Term(3), Index(1), log(1, 2, 2).get) is None
    assert "has None at 2" in (facts.is_complete(Term(3), Index(1), log(1).get) or "")
    assert "has 1 at 2" in (facts.is_complete(Term(3), Index(1), log(1, 1).get) or "")


def test_what_is_committed_in_a_later_term_or_compacted_is_not_asked_of_a_leader() -> None:
    facts = GroupFacts()
    commit(facts, 1, 1, 1)
    commit(facts, 2, 2, 4)
    assert facts.is_complete(Term(3), Index(1), log(1).get) is None
    assert facts.is_complete(Term(3), Index(5), log().get) is None


def test_the_lowest_term_that_knew_of_a_commit_counts() -> None:
    facts = GroupFacts()
    commit(facts, 2, 2, 4)
    commit(facts, 2, 2, 2)
    assert facts.is_complete(Term(3), Index(1), log(1).get) is not None


def test_a_replica_votes_once_in_a_term() -> None:
    facts = GroupFacts()
    assert facts.votes(ReplicaId(1), Term(6), ReplicaId(2)) is None
    assert facts.votes(ReplicaId(1), Term(6), ReplicaId(2)) is None
    assert facts.votes(ReplicaId(1), Term(7), ReplicaId(3)) is None
    assert "for 2, and for 3" in (facts.votes(ReplicaId(1), Term(6), ReplicaId(3)) or "")


def test_what_was_acknowledged_and_is_committed_outlives_a_crash() -> None:
    facts = GroupFacts()
    commit(facts, 1, 1, 1)
    commit(facts, 2, 1, 1)
    assert facts.lost((Term(1), Index(2)), Index(1), log(1, 1).get) is None
    assert "at 2: 1, now None" in (facts.lost((Term(1), Index(2)), Index(1), log(1).get) or "")
    assert facts.lost((Term(1), Index(1)), Index(1), log(1).get) is None, "never acknowledged"
    assert facts.lost((Term(1), Index(2)), Index(3), log().get) is None, "compacted"


def test_what_was_acknowledged_to_an_older_leader_only_may_have_been_replaced() -> None:
    facts = GroupFacts()
    commit(facts, 2, 3, 3)
    assert facts.lost((Term(1), Index(2)), Index(1), log(1, 1).get) is None


def cut_at_three() -> GroupFacts:
    """Return what is known of five committed entries of term 6; every log is cut at the third."""
    facts = GroupFacts()
    for index in range(1, 6):
        assert facts.writes(Term(6), Index(index), Term(6), b"a") is None
        assert commit(facts, index, 6, 6) is None
    assert facts.remembered == 10
    facts.forget_below(Index(3))
    return facts


def test_of_what_every_log_is_cut_behind_only_the_cut_is_remembered() -> None:
    facts = cut_at_three()
    assert facts.remembered == 2 + 3
    facts.forget_below(Index(2))
    assert facts.remembered == 5, "a floor stays where it is"


def test_nothing_is_written_or_committed_behind_the_floor() -> None:
    facts = cut_at_three()
    for index in (2, 3):
        problem = facts.writes(Term(6), Index(index), Term(6), b"a") or ""
        assert f"an entry is written at {index}, though every log was cut at 3" in problem
    assert facts.writes(Term(6), Index(4), Term(6), b"a") is None
    assert "has 2 as committed, though every log was cut at 3" in (commit(facts, 2, 6, 6) or "")
    assert commit(facts, 3, 6, 6) is None, "a log knows the term at which it is cut"


def test_from_the_floor_on_everything_is_found_as_before() -> None:
    facts = cut_at_three()
    assert "two entries" in (facts.writes(Term(6), Index(4), Term(6), b"b") or "")
    assert "state machine safety" in (commit(facts, 3, 7, 7) or "")
    cut = {Index(index): Term(6) for index in range(3, 6)}
    assert facts.is_complete(Term(7), Index(4), cut.get) is None
    assert facts.lost((Term(6), Index(5)), Index(4), cut.get) is None
    del cut[Index(5)]
    assert "has None at 5" in (facts.is_complete(Term(7), Index(4), cut.get) or "")
    assert "at 5: 6, now None" in (facts.lost((Term(6), Index(5)), Index(4), cut.get) or "")
