"""When to shorten a range's log.

Purpose
    The leader proposes to drop entries that every member has, once the log is long enough to be
    worth it. A member that is far behind holds that up only to a limit; then it will need a
    snapshot.
Invariants
    - No replica drops an entry that it has not applied.
    - While a snapshot is on its way, the entries behind it stay, or it would arrive in vain; and
      when it has arrived, until `log_bytes_max` more were written: its receiver may need many round
      trips to get them.
    - One proposal is under way at a time.
    - Each drops more entries than the one that it adds. Otherwise a member that is always a few
      entries behind would have the leader of an idle range propose for ever.
Source
    Raft thesis 5.1.
"""

from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.ids import Index
from multiraft.ranges.messages import Command, TruncateTrigger

if TYPE_CHECKING:
    from multiraft.ranges.leaseholder import Leaseholder
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.snapshot import SnapshotSender


class Truncation:
    """The waiter of the proposal under way, for one leader."""

    __slots__ = ("_bytes_for_receiver", "_under_way")

    def __init__(self) -> None:
        self._under_way = False
        self._bytes_for_receiver = 0
        """How long the log may become before the receiver of the last snapshot is given up."""

    def snapshot_arrived(self, replica: "Replica") -> None:
        """Somebody has got a snapshot: let it have what was logged meanwhile."""
        more = replica.context.config.ranges.log_bytes_max
        self._bytes_for_receiver = replica.log.size_bytes + more

    def look_at(
        self, replica: "Replica", holder: "Leaseholder", snapshots: "SnapshotSender"
    ) -> None:
        """Propose a truncation if the log is worth it; cheap when it is not."""
        config = replica.context.config.ranges
        size = replica.log.size_bytes
        if size <= config.log_keep_bytes:
            self._bytes_for_receiver = 0
            return
        if self._under_way:
            return
        index = min(replica.core.replicated_index(), replica.applied.index)
        bytes_max = max(config.log_bytes_max, self._bytes_for_receiver)
        if size > bytes_max and not snapshots.is_sending(replica.range_id):
            index = replica.applied.index
            self._bytes_for_receiver = 0
        if index > replica.log.first_index():
            command = Command(trigger=TruncateTrigger(Index(index)))
            self._under_way = holder.propose(command, self)

    def applied(self) -> None:
        """The log was shortened."""
        self._under_way = False

    def failed(self, error: errors.MultiraftError) -> None:
        """The term is over, and this object with it."""
