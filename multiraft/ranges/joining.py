"""Several commands as one: what the requests of one turn put into the log of a range together.

Purpose
    An entry costs each replica a key in its log, an object and a step of the applied index, however
    much it holds. Callers that come together share one.
Invariants
    - The joined command has the effects of its parts, in their order, and nothing else. They do not
      conflict: each of them holds its latches until it is applied.
    - Only plain commands are joined: those with nothing but effects, their time, their statistics,
      and the IDs of what they write, which nobody but their proposer needs.
"""

from collections.abc import Iterable

from multiraft.ids import Timestamp
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges.messages import Command

_PLAIN = ("id", "timestamp", "puts", "stats", "deletes", "also")
_OTHERS = tuple([name for name in Command.__struct_fields__ if name not in _PLAIN])
_HEAD_BYTES = 48


def is_plain(command: Command) -> bool:
    """Return whether `command` may be joined with others."""
    return not any([getattr(command, name) for name in _OTHERS])


def size_of(command: Command) -> int:
    """Return about how many bytes a plain command takes in the log."""
    return _HEAD_BYTES + sum(map(len, command.puts)) + sum(map(len, command.deletes))


def join(commands: Iterable[Command]) -> Command:
    """Return the command with the effects of all of `commands`, which are plain.

    It has no IDs, and the greatest of their times.
    """
    timestamp = Timestamp(0)
    puts: list[bytes] = []
    deletes: list[bytes] = []
    stats = RangeStats()
    for command in commands:
        timestamp = max(timestamp, command.timestamp)
        puts += command.puts
        deletes += command.deletes
        if command.stats is not None:
            stats = stats.plus(command.stats)
    return Command(b"", timestamp, tuple(puts), stats, deletes=tuple(deletes))
