"""What a command does besides writing keys, one function per trigger.

Each is called while the command is applied, on every replica alike, and puts its effects into the
batch of the turn. `live` is True only in the process and term that proposed the command.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from multiraft.raft.messages import Entry
from multiraft.ranges import messages, state
from multiraft.ranges.turn import Turn

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica


def _split(
    replica: "Replica", turn: Turn, entry: Entry, trigger: messages.SplitTrigger, live: bool
) -> None:
    replica.apply_split(turn, trigger, live=live)


def _descriptor(
    replica: "Replica", turn: Turn, entry: Entry, trigger: messages.DescriptorTrigger, live: bool
) -> None:
    if trigger.descriptor.replica(replica.replica_id) is None:
        replica.remove(turn, trigger.descriptor)
        return
    replica.set_descriptor(turn, trigger.descriptor)
    configuration = state.configuration(trigger.descriptor)
    turn.after_write.append(partial(replica.core.apply_configuration, configuration, entry.index))
    turn.after_write.append(replica.note_descriptor_change)


def _truncate(
    replica: "Replica", turn: Turn, entry: Entry, trigger: messages.TruncateTrigger, live: bool
) -> None:
    replica.log.truncate(turn.batch, min(trigger.index, entry.index))


def _meta_known(
    replica: "Replica", turn: Turn, entry: Entry, trigger: messages.MetaKnownTrigger, live: bool
) -> None:
    replica.note_meta_generation(trigger.generation)


def _gc(
    replica: "Replica", turn: Turn, entry: Entry, trigger: messages.GcTrigger, live: bool
) -> None:
    replica.raise_gc_threshold(trigger.threshold)


Pull = Callable[["Replica", Turn, Entry, Any, bool], None]

PULL: dict[type[messages.Trigger], Pull] = {
    messages.SplitTrigger: _split,
    messages.DescriptorTrigger: _descriptor,
    messages.TruncateTrigger: _truncate,
    messages.MetaKnownTrigger: _meta_known,
    messages.GcTrigger: _gc,
}
"""One row per trigger; tests check that none is missing."""
