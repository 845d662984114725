"""What a leader knows of one member, and how fast it may send to it.

Purpose
    Three states. PROBE: where the logs meet is not known; one append at a time. REPLICATE: it is,
    so appends are sent ahead of the answers within a window of messages and bytes. SNAPSHOT: the
    member needs entries that the log no longer has; nothing is sent until the host reports.
Invariants
    - `match_index` < `next_index`; `match_index` never goes back within a term.
    - In flight are at most the configured messages, and at most the configured bytes plus one
      message.
Source
    Raft paper 5.3 (nextIndex, matchIndex); thesis 10.2.1 (pipelining); rules L2, L3.
"""

import enum
from collections import deque

from multiraft.config import RaftConfig
from multiraft.ids import NO_EPOCH, Index


class ProgressState(enum.IntEnum):
    """See the module."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


BACK_OFF_FACTOR_MAX = 8
"""A silent member is tried at intervals that double up to this many times the first."""


class Progress:
    """One member, as the leader sees it."""

    __slots__ = (
        "_inflight",
        "_inflight_bytes",
        "_retry_ticks_min",
        "commit_known",
        "commit_sent",
        "elapsed_ticks",
        "fortification_ticks",
        "fortified_epoch",
        "heard",
        "match_index",
        "next_index",
        "probe_sent",
        "retry_ticks",
        "state",
        "store_epoch",
    )

    def __init__(self, next_index: Index, config: RaftConfig) -> None:
        self.state = ProgressState.PROBE
        self.match_index = Index(0)
        self.next_index = next_index
        self.probe_sent = False
        self.commit_known = Index(0)
        """What the member said it knows as committed (rule L2)."""
        self.commit_sent = Index(0)
        self.fortified_epoch = NO_EPOCH
        """The support epoch at which it is fortified to us, durably there."""
        self.store_epoch = NO_EPOCH
        """Of the member's store, as our store supports it: a new one tells of a restart."""
        self.heard = False
        """Whether it said anything since the last check of the quorum."""
        self.elapsed_ticks = 0
        self.fortification_ticks = 0
        self._retry_ticks_min = config.retry_ticks
        self.retry_ticks = config.retry_ticks
        self._inflight: deque[tuple[Index, int]] = deque()
        self._inflight_bytes = 0

    @property
    def inflight_bytes(self) -> int:
        """Payload bytes of the appends sent in REPLICATE and not acknowledged."""
        return self._inflight_bytes

    @property
    def backed_off(self) -> bool:
        """Whether retries have been unanswered so often that the interval grows no more."""
        return self.retry_ticks >= self._retry_ticks_min * BACK_OFF_FACTOR_MAX

    def may_send(self, config: RaftConfig) -> bool:
        """Return whether an append may leave now."""
        if self.state is ProgressState.REPLICATE:
            return (
                len(self._inflight) < config.inflight_messages_max
                and self._inflight_bytes < config.inflight_bytes_max
            )
        return self.state is ProgressState.PROBE and not self.probe_sent

    def sent(self, last_index: Index, size_bytes: int, commit_index: Index) -> None:
        """Note an append up to `last_index` that leaves now."""
        self.commit_sent = commit_index
        if self.state is ProgressState.PROBE:
            self.probe_sent = True
            return
        self.next_index = Index(last_index + 1)
        self._inflight.append((last_index, size_bytes))
        self._inflight_bytes += size_bytes

    def acknowledge(self, match_index: Index) -> bool:
        """Take in an accepted append; return whether `match_index` went up."""
        inflight = self._inflight
        while inflight and inflight[0][0] <= match_index:
            self._inflight_bytes -= inflight.popleft()[1]
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        if self.next_index <= match_index:
            self.next_index = Index(match_index + 1)
        return True

    def become_probe(self, next_index: Index) -> None:
        """Look for the point where the logs meet, from `next_index` down."""
        self._reset(ProgressState.PROBE)
        self.next_index = max(next_index, Index(self.match_index + 1))

    def become_replicate(self) -> None:
        """Stream from behind the match."""
        self._reset(ProgressState.REPLICATE)
        self.next_index = Index(self.match_index + 1)

    def become_snapshot(self) -> None:
        """Wait for the host to deliver a snapshot."""
        self._reset(ProgressState.SNAPSHOT)

    def _reset(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self._inflight.clear()
        self._inflight_bytes = 0

    def was_heard(self) -> None:
        """Note any message of the member: it is there, so retries need no back-off."""
        self.heard = True
        self.retry_ticks = self._retry_ticks_min

    def answered(self) -> None:
        """Note a message by which the member gets on: nothing needs to be repeated yet."""
        self.was_heard()
        self.elapsed_ticks = 0

    def retry_due(self) -> bool:
        """Count one tick of a member that is behind; return whether to repeat now."""
        self.elapsed_ticks += 1
        if self.elapsed_ticks < self.retry_ticks:
            return False
        self.elapsed_ticks = 0
        self.fortification_ticks = 0
        self.retry_ticks = min(self.retry_ticks * 2, self._retry_ticks_min * BACK_OFF_FACTOR_MAX)
        return True

    def fortification_due(self) -> bool:
        """Count one tick of a member that is behind, silent or not; return whether to ask again."""
        self.fortification_ticks += 1
        if self.fortification_ticks < self.retry_ticks:
            return False
        self.fortification_ticks = 0
        return True
