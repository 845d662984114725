"""Both sides of a pair, step by step. Times are milliseconds of the HLC that is passed in."""

import pytest

from multiraft.ids import NO_EPOCH, Epoch, NodeId, Timestamp
from multiraft.liveness.messages import SupportReply, SupportRequest
from multiraft.liveness.records import NOTHING, Asked, Granted, Stored
from multiraft.liveness.support import Change, Changes, Effects, Support
from multiraft.model import hlc

A = NodeId(1)
B = NodeId(2)
C = NodeId(3)


def at(milliseconds: int) -> Timestamp:
    return hlc.from_ms(milliseconds)


def request(epoch: int, until: int) -> SupportRequest:
    return SupportRequest(Epoch(epoch), at(until))


def reply(epoch: int, until: int) -> SupportReply:
    return SupportReply(Epoch(epoch), at(until))


def asked(until: int, *epochs: tuple[NodeId, int]) -> Asked:
    return Asked(at(until), tuple((node, Epoch(epoch)) for node, epoch in epochs))


def granted(epoch: int, until: int, ended_at: int = 0) -> Granted:
    return Granted(Epoch(epoch), at(until), at(ended_at))


def stored(record: Asked, *grants: tuple[NodeId, Granted]) -> Stored:
    return Stored(record, grants)


def effects(
    record: Asked | None = None,
    grants: tuple[tuple[NodeId, Granted], ...] = (),
    messages: tuple[tuple[NodeId, SupportRequest | SupportReply], ...] = (),
    own_reply: SupportReply | None = None,
) -> Effects:
    return Effects(record, grants, messages, own_reply)


def take(core: Support, now: int) -> Effects:
    taken = core.take_effects(at(now))
    assert taken is not None
    return taken


def settle(core: Support, now: int) -> Changes:
    """Do, at once, all that the core wants done; what it sends gets lost."""
    changes: Changes = []
    while (taken := core.take_effects(at(now))) is not None:
        changes += core.synced(taken, at(now))
    return changes


def opened(found: Stored = NOTHING) -> Support:
    """Return store A, its start recorded, not ticked yet."""
    core = Support(A, support=at(1_000), interval=at(200), stored=found)
    settle(core, 0)
    return core


def running(
    found: Stored = NOTHING, *, now: int = 1_000, peers: tuple[NodeId, ...] = ()
) -> Support:
    """Return store A as of `now`, ticking without a gap."""
    core = opened(found)
    for peer in peers:
        core.add_peer(peer)
    core.tick(at(now - 200))
    settle(core, now - 200)
    core.tick(at(now))
    settle(core, now)
    return core


class TestStart:
    def test_records_the_raised_epochs_of_all_pairs_and_asks_nobody(self) -> None:
        found = stored(asked(900, (A, 4), (B, 7)))
        core = Support(A, support=at(1_000), interval=at(200), stored=found)
        core.add_peer(B)
        assert take(core, 950) == effects(asked(900, (A, 5), (B, 8)))

    def test_asks_at_the_raised_epoch(self) -> None:
        core = opened(stored(asked(900, (A, 4), (B, 7))))
        core.add_peer(B)
        core.tick(at(1_000))
        assert (B, request(8, 2_000)) in take(core, 1_000).messages

    def test_remembers_whom_it_supports(self) -> None:
        found = stored(asked(900), (B, granted(3, 2_000)), (C, granted(6, 0, 500)))
        core = Support(A, support=at(1_000), interval=at(200), stored=found)
        assert (core.support_for(B), core.support_for(C)) == (Epoch(3), NO_EPOCH)

    def test_the_clock_floor_is_the_latest_of_all_that_was_asked_and_ended(self) -> None:
        assert stored(asked(900), (B, granted(3, 2_000, 700))).clock_floor == at(900)
        assert stored(asked(900), (B, granted(3, 2_000, 950))).clock_floor == at(950)

    def test_counts_no_reply_to_an_earlier_incarnation(self) -> None:
        core = running(stored(asked(900, (A, 4), (B, 7))), peers=(B,))
        assert core.receive(B, reply(7, 900), at(1_000)) == []
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO)

    def test_withdraws_nothing_at_the_first_tick(self) -> None:
        core = opened(stored(asked(900), (B, granted(3, 500))))
        core.tick(at(1_000))
        settle(core, 1_000)
        assert core.support_for(B) == Epoch(3)
        core.tick(at(1_200))
        settle(core, 1_200)
        assert core.support_for(B) == NO_EPOCH


class TestAsking:
    def test_one_record_covers_the_requests_to_all_peers_and_the_own_grant(self) -> None:
        core = opened()
        core.add_peer(B)
        core.add_peer(C)
        core.tick(at(1_000))
        assert take(core, 1_000) == effects(
            asked(2_000, (A, 1), (B, 1), (C, 1)),
            ((A, granted(1, 2_000)),),
            ((B, request(1, 2_000)), (C, request(1, 2_000))),
            reply(1, 2_000),
        )

    def test_nothing_is_asked_while_a_sync_is_under_way(self) -> None:
        core = running(peers=(B,))
        core.tick(at(1_200))
        stalled = take(core, 1_200)
        for now in (1_400, 1_600, 1_800):
            core.tick(at(now))
            assert core.take_effects(at(now)) is None
        core.synced(stalled, at(1_900))
        assert take(core, 1_900).messages == ((B, request(1, 2_900)),)

    def test_only_a_reply_counts(self) -> None:
        core = running(peers=(B,))
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO)
        assert core.receive(B, reply(1, 2_000), at(1_010)) == [(B, Change.SUPPORT_FROM_GAINED)]
        assert core.support_from(B) == (Epoch(1), at(2_000))

    def test_a_later_reply_extends_and_a_reordered_one_does_nothing(self) -> None:
        core = running(now=1_200, peers=(B,))
        core.receive(B, reply(1, 2_000), at(1_210))
        before = core.version
        assert core.receive(B, reply(1, 2_200), at(1_220)) == [(B, Change.SUPPORT_FROM_EXTENDED)]
        assert core.version > before
        before = core.version
        assert core.receive(B, reply(1, 2_000), at(1_230)) == []
        assert core.receive(B, reply(1, 2_200), at(1_240)) == []
        assert core.support_from(B) == (Epoch(1), at(2_200))
        assert core.version == before

    def test_an_answer_to_what_was_never_asked_does_not_count(self) -> None:
        core = running(peers=(B,))
        assert core.receive(B, reply(1, 2_001), at(1_010)) == []
        assert core.receive(C, reply(1, 2_000), at(1_010)) == []
        assert core.support_from(B) == core.support_from(C) == (NO_EPOCH, hlc.ZERO)

    def test_support_that_runs_out_is_reported_once_and_comes_back(self) -> None:
        core = running(peers=(B,))
        core.receive(B, reply(1, 2_000), at(1_010))
        for now in (1_200, 1_400, 1_600, 1_800, 2_000):
            assert core.tick(at(now)) == []
            settle(core, now)
        assert core.tick(at(2_200)) == [(B, Change.SUPPORT_FROM_ENDED)]
        assert core.tick(at(2_400)) == []
        settle(core, 2_400)
        assert core.receive(B, reply(1, 3_400), at(2_410)) == [(B, Change.SUPPORT_FROM_GAINED)]

    def test_support_that_has_ended_is_not_shown_any_more(self) -> None:
        core = running(peers=(B,))
        core.receive(B, reply(1, 2_000), at(1_010))
        for now in (1_200, 1_400, 1_600, 1_800, 2_000):
            core.tick(at(now))
            settle(core, now)
        assert core.support_from(B) == (Epoch(1), at(2_000))
        before = core.version
        assert (B, Change.SUPPORT_FROM_ENDED) in core.tick(at(2_200))
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO), "a leader without it steps down"
        assert core.version > before, "leases are computed anew"

    def test_a_reply_that_comes_after_its_end_is_no_gain(self) -> None:
        core = running(peers=(B,))
        assert core.receive(B, reply(1, 2_000), at(2_001)) == []

    def test_a_raised_epoch_ends_support_and_is_asked_for_at_once_by_that_pair_alone(self) -> None:
        core = running(peers=(B, C))
        core.receive(B, reply(1, 2_000), at(1_010))
        core.receive(C, reply(1, 2_000), at(1_010))
        assert core.receive(B, reply(2, 0), at(1_020)) == [(B, Change.SUPPORT_FROM_ENDED)]
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO)
        assert core.support_from(C) == (Epoch(1), at(2_000))
        assert take(core, 1_030) == effects(
            asked(2_030, (A, 1), (B, 2), (C, 1)), (), ((B, request(2, 2_030)),)
        )

    def test_a_raised_epoch_brings_no_support_with_it(self) -> None:
        core = running(peers=(B,))
        core.receive(B, reply(2, 2_000), at(1_010))
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO)

    def test_what_is_asked_for_never_goes_back(self) -> None:
        core = opened(stored(asked(5_000, (A, 1))))
        core.add_peer(B)
        core.tick(at(1_000))
        assert take(core, 1_000).messages == ((B, request(1, 5_000)),)

    def test_a_new_peer_is_asked_at_once(self) -> None:
        core = running()
        core.add_peer(B)
        assert take(core, 1_100).messages == ((B, request(1, 2_100)),)
        core.synced(effects_in_flight(core), at(1_100))
        core.add_peer(B)
        assert core.take_effects(at(1_100)) is None

    def test_a_removed_peer_counts_no_more_and_is_not_asked(self) -> None:
        core = running(peers=(B,))
        core.receive(B, reply(1, 2_000), at(1_010))
        before = core.version
        assert core.remove_peer(B) == [(B, Change.SUPPORT_FROM_ENDED)]
        assert core.version > before
        assert core.remove_peer(B) == []
        assert core.receive(B, reply(1, 2_000), at(1_020)) == []
        core.receive(B, reply(9, 0), at(1_030))
        assert core.support_from(B) == (NO_EPOCH, hlc.ZERO)
        assert core.take_effects(at(1_040)) is None
        core.tick(at(1_200))
        assert take(core, 1_200).messages == ()

    def test_a_peer_that_comes_back_is_asked_at_a_new_epoch(self) -> None:
        core = running(peers=(B,))
        core.remove_peer(B)
        core.add_peer(B)
        assert core.receive(B, reply(1, 2_000), at(1_020)) == []
        assert take(core, 1_100).messages == ((B, request(2, 2_100)),)

    def test_a_peer_that_is_removed_twice_or_was_none_changes_nothing(self) -> None:
        core = running(peers=(B,))
        core.remove_peer(B)
        assert core.remove_peer(B) == []
        assert core.remove_peer(C) == []
        core.add_peer(B)
        assert take(core, 1_100).messages == ((B, request(2, 2_100)),), "not at the third epoch"

    def test_a_peer_that_is_removed_before_it_was_asked_is_not_asked(self) -> None:
        core = running()
        core.add_peer(B)
        core.remove_peer(B)
        assert core.take_effects(at(1_100)) is None


def effects_in_flight(core: Support) -> Effects:
    taken = core._in_flight
    assert taken is not None
    return taken


class TestSupporting:
    def test_a_grant_is_recorded_before_the_reply_and_seen_after_the_sync(self) -> None:
        core = running()
        assert core.receive(B, request(3, 2_000), at(1_010)) == []
        taken = take(core, 1_010)
        assert taken == effects(None, ((B, granted(3, 2_000)),), ((B, reply(3, 2_000)),))
        assert core.support_for(B) == NO_EPOCH
        assert core.synced(taken, at(1_020)) == [(B, Change.SUPPORT_FOR_REGAINED)]
        assert core.support_for(B) == Epoch(3)

    def test_grants_that_arrive_together_share_one_batch(self) -> None:
        core = running()
        core.receive(B, request(1, 2_000), at(1_010))
        core.receive(C, request(1, 2_000), at(1_010))
        assert len(take(core, 1_010).granted) == 2

    def test_a_sync_shows_what_was_written_then_and_not_what_was_decided_since(self) -> None:
        core = running()
        core.receive(B, request(1, 1_300), at(1_010))
        taken = take(core, 1_010)
        core.tick(at(1_200))
        core.tick(at(1_400))
        core.synced(taken, at(1_450))
        assert core.support_for(B) == Epoch(1)
        settle(core, 1_450)
        assert core.support_for(B) == NO_EPOCH

    def test_a_reordered_request_does_not_shorten_and_a_doubled_one_is_answered_again(self) -> None:
        core = running()
        core.receive(B, request(1, 2_000), at(1_010))
        settle(core, 1_010)
        core.receive(B, request(1, 1_800), at(1_020))
        assert take(core, 1_020) == effects(None, (), ((B, reply(1, 2_000)),))

    def test_a_request_at_a_withdrawn_epoch_is_told_the_present_one(self) -> None:
        core = running(stored(asked(900), (B, granted(4, 0, 800))))
        core.receive(B, request(3, 2_000), at(1_010))
        assert take(core, 1_010) == effects(None, (), ((B, reply(4, 0)),))
        assert core.support_for(B) == NO_EPOCH

    def test_a_request_whose_end_has_passed_is_not_granted(self) -> None:
        core = running()
        core.receive(B, request(1, 1_000), at(1_000))
        assert core.take_effects(at(1_000)) is None

    def test_support_lasts_until_the_own_clock_has_passed_the_end(self) -> None:
        core = running()
        core.receive(B, request(1, 1_400), at(1_010))
        settle(core, 1_010)
        core.tick(at(1_200))
        core.tick(at(1_400))
        settle(core, 1_400)
        assert core.support_for(B) == Epoch(1)
        core.tick(at(1_600))
        taken = take(core, 1_600)
        assert (B, granted(2, 0, 1_600)) in taken.granted
        assert core.support_for(B) == Epoch(1), "not before it is durable"
        assert (B, Change.SUPPORT_FOR_WITHDRAWN) in core.synced(taken, at(1_610))
        assert core.support_for(B) == NO_EPOCH

    def test_support_that_ends_between_two_ticks_is_withdrawn_then(self) -> None:
        core = running()
        core.receive(B, request(1, 1_100), at(1_010))
        settle(core, 1_010)
        assert core.next_expiry(at(1_010)) == at(1_100)
        core.withdraw_expired(at(1_100))
        assert core.take_effects(at(1_100)) is None, "not before the clock has passed the end"
        core.withdraw_expired(at(1_101))
        assert take(core, 1_101) == effects(None, ((B, granted(2, 0, 1_101)),))
        assert core.next_expiry(at(1_101)) is None

    def test_what_ends_after_the_next_tick_is_left_to_it(self) -> None:
        core = running()
        core.receive(B, request(1, 1_200), at(1_010))
        assert core.next_expiry(at(1_010)) is None

    def test_where_the_next_tick_is_late_only_that_withdraws(self) -> None:
        """Rule L4: it sees how late it is, and that renewals may be waiting."""
        core = running()
        core.receive(B, request(1, 1_100), at(1_010))
        settle(core, 1_010)
        core.withdraw_expired(at(1_500))
        assert core.next_expiry(at(1_500)) is None
        core.tick(at(1_500))
        core.withdraw_expired(at(1_501))
        assert core.next_expiry(at(1_501)) is None
        settle(core, 1_501)
        assert core.support_for(B) == Epoch(1)
        core.tick(at(1_700))
        settle(core, 1_700)
        assert core.support_for(B) == NO_EPOCH

    def test_support_given_again_keeps_the_time_of_the_last_withdrawal(self) -> None:
        core = running(stored(asked(900), (B, granted(4, 0, 800))))
        core.receive(B, request(4, 2_000), at(1_010))
        assert take(core, 1_010).granted == ((B, granted(4, 2_000, 800)),)

    def test_a_restarted_asker_ends_its_old_epoch_and_the_time_of_that_is_kept(self) -> None:
        core = running()
        core.receive(B, request(1, 1_500), at(1_010))
        settle(core, 1_010)
        core.receive(B, request(2, 2_501), at(1_501))
        taken = take(core, 1_501)
        assert taken.granted == ((B, granted(2, 2_501, 1_501)),)
        assert core.synced(taken, at(1_502)) == [
            (B, Change.SUPPORT_FOR_WITHDRAWN),
            (B, Change.SUPPORT_FOR_REGAINED),
        ]

    def test_a_higher_epoch_is_not_taken_before_the_end_of_what_was_granted(self) -> None:
        core = running()
        core.receive(B, request(1, 1_500), at(1_010))
        settle(core, 1_010)
        core.receive(B, request(2, 2_500), at(1_500))
        assert core.take_effects(at(1_500)) is None
        assert core.support_for(B) == Epoch(1)

    def test_a_late_renewal_of_what_was_not_withdrawn_yet_is_taken(self) -> None:
        core = running()
        core.receive(B, request(1, 1_150), at(1_010))
        settle(core, 1_010)
        core.receive(B, request(1, 2_180), at(1_190))
        core.tick(at(1_200))
        settle(core, 1_200)
        assert core.support_for(B) == Epoch(1)


class TestGap:
    def supporting(self) -> Support:
        core = running(peers=(B,))
        core.receive(B, request(1, 2_000), at(1_010))
        core.receive(B, reply(1, 2_000), at(1_010))
        settle(core, 1_010)
        return core

    def test_after_a_pause_nothing_is_withdrawn_at_once(self) -> None:
        core = self.supporting()
        assert core.tick(at(5_000)) == []
        assert settle(core, 5_000) == [(A, Change.SUPPORT_FROM_EXTENDED)]
        assert core.support_for(B) == Epoch(1)

    def test_a_renewal_read_after_the_pause_keeps_the_epoch(self) -> None:
        core = self.supporting()
        core.tick(at(5_000))
        core.receive(B, request(1, 5_900), at(5_001))
        settle(core, 5_001)
        assert core.tick(at(5_200)) == [(B, Change.SUPPORT_FROM_ENDED)]
        settle(core, 5_200)
        assert core.support_for(B) == Epoch(1)

    def test_without_a_renewal_it_is_withdrawn_one_interval_later(self) -> None:
        core = self.supporting()
        core.tick(at(5_000))
        settle(core, 5_000)
        core.tick(at(5_200))
        assert (B, Change.SUPPORT_FOR_WITHDRAWN) in settle(core, 5_200)

    def test_one_late_tick_is_no_gap(self) -> None:
        core = self.supporting()
        for now in (1_200, 1_400, 1_600, 1_800):
            core.tick(at(now))
        core.tick(at(2_200))
        assert (B, Change.SUPPORT_FOR_WITHDRAWN) in settle(core, 2_200)


class TestOwnSupport:
    def test_it_is_there_after_the_own_sync(self) -> None:
        core = opened()
        core.tick(at(1_000))
        taken = take(core, 1_000)
        assert core.support_from(A) == (NO_EPOCH, hlc.ZERO)
        assert core.synced(taken, at(1_001)) == [
            (A, Change.SUPPORT_FOR_REGAINED),
            (A, Change.SUPPORT_FROM_GAINED),
        ]
        assert core.support_from(A) == (Epoch(1), at(2_000))
        assert core.support_for(A) == Epoch(1)

    def test_a_stalled_disk_ends_it_and_it_returns_at_a_new_epoch(self) -> None:
        core = running()
        core.tick(at(1_200))
        stalled = take(core, 1_200)
        ended: Changes = []
        for now in range(1_400, 2_601, 200):
            ended += core.tick(at(now))
        assert ended == [(A, Change.SUPPORT_FROM_ENDED)]
        core.synced(stalled, at(2_700))
        changes = settle(core, 2_700)
        assert [change for _, change in changes] == [
            Change.SUPPORT_FOR_WITHDRAWN,
            Change.SUPPORT_FOR_REGAINED,
            Change.SUPPORT_FROM_GAINED,
        ]
        assert core.support_from(A) == (Epoch(2), at(3_700))

    def test_it_cannot_be_removed(self) -> None:
        with pytest.raises(AssertionError, match="own peer"):
            running().remove_peer(A)


def test_effects_are_synced_once() -> None:
    core = running()
    core.tick(at(1_200))
    taken = take(core, 1_200)
    core.synced(taken, at(1_200))
    with pytest.raises(AssertionError, match="once"):
        core.synced(taken, at(1_200))
