from multiraft.config import RaftConfig
from multiraft.ids import Index
from multiraft.raft.progress import BACK_OFF_FACTOR_MAX, Progress, ProgressState

CONFIG = RaftConfig(inflight_messages_max=2, inflight_bytes_max=100, retry_ticks=2)


def replicating() -> Progress:
    progress = Progress(Index(5), CONFIG)
    progress.acknowledge(Index(4))
    progress.become_replicate()
    return progress


def test_a_probe_is_one_message_at_a_time() -> None:
    progress = Progress(Index(5), CONFIG)
    assert progress.may_send(CONFIG)
    progress.sent(Index(8), 10, Index(3))
    assert not progress.may_send(CONFIG)
    assert progress.next_index == 5
    assert progress.commit_sent == 3


def test_replicate_sends_ahead_within_the_window_of_messages() -> None:
    progress = replicating()
    progress.sent(Index(5), 10, Index(0))
    assert progress.may_send(CONFIG)
    progress.sent(Index(6), 10, Index(0))
    assert progress.next_index == 7
    assert not progress.may_send(CONFIG)
    progress.acknowledge(Index(5))
    assert progress.may_send(CONFIG)
    assert (len(progress._inflight), progress.inflight_bytes) == (1, 10)


def test_replicate_sends_ahead_within_the_window_of_bytes() -> None:
    progress = replicating()
    progress.sent(Index(5), 100, Index(0))
    assert not progress.may_send(CONFIG)


def test_an_old_acknowledgement_changes_nothing() -> None:
    progress = replicating()
    assert progress.acknowledge(Index(6))
    assert not progress.acknowledge(Index(5))
    assert (progress.match_index, progress.next_index) == (6, 7)


def test_a_probe_never_goes_below_the_match_and_forgets_what_was_in_flight() -> None:
    progress = replicating()
    progress.sent(Index(9), 10, Index(0))
    progress.become_probe(Index(2))
    assert progress.next_index == 5
    assert progress.state is ProgressState.PROBE
    assert (len(progress._inflight), progress.inflight_bytes) == (0, 0)
    assert progress.may_send(CONFIG)


def test_nothing_is_sent_while_a_snapshot_is_under_way() -> None:
    progress = replicating()
    progress.become_snapshot()
    assert not progress.may_send(CONFIG)


def test_retries_back_off_until_the_member_answers() -> None:
    progress = Progress(Index(1), CONFIG)
    due = [tick for tick in range(1, 63) if progress.retry_due()]
    assert due == [2, 6, 14, 30, 46, 62]
    assert progress.retry_ticks == CONFIG.retry_ticks * BACK_OFF_FACTOR_MAX
    assert progress.backed_off
    progress.answered()
    assert progress.heard
    assert not progress.backed_off
    assert [tick for tick in range(1, 7) if progress.retry_due()] == [2, 6]
