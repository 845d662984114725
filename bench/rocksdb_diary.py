"""When RocksDB flushed, compacted, or held writers up, as the files `LOG` in its directory tell.

RocksDB tells of flushes and compactions in JSON on a line, with the time since 1970, and of writers
held up in plain text, with the local time of the machine at the start of the line.
"""

import datetime
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from multiraft.storage import directory

FLUSH, COMPACTION, WRITERS_HELD_UP = "flush", "compaction", "writers held up"

_EVENT = re.compile(r"EVENT_LOG_v1 (\{.*\})")
_HELD_UP = re.compile(r"^(\S+) .*(?:Stalling|Stopping) writes")
_LOCAL_TIME = "%Y/%m/%d-%H:%M:%S.%f"


class Activity(msgspec.Struct, frozen=True):
    """Something that RocksDB did, in microseconds since 1970; writers are held up from a moment."""

    kind: str
    began_us: int
    ended_us: int

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended_us - self.began_us) / 1_000


class _Event(msgspec.Struct, frozen=True):
    time_micros: int
    event: str
    job: int = 0


def read(data_directory: Path) -> list[Activity]:
    """Return what the engine of a node did, as far as its files are kept, by when it began."""
    current, *older = sorted((data_directory / directory.ROCKS).glob("LOG*"))
    lines: list[str] = []
    for file in (*older, current):
        lines += file.read_text(errors="replace").splitlines()
    return sorted(activities(lines), key=lambda activity: activity.began_us)


def activities(lines: Iterable[str]) -> Iterator[Activity]:
    """Yield what the lines tell of; work that they do not tell the end of is left out."""
    under_way: dict[tuple[str, int], int] = {}
    for line in lines:
        held_up = _HELD_UP.match(line)
        if held_up is not None:
            at = datetime.datetime.strptime(held_up[1], _LOCAL_TIME).astimezone()
            moment = round(at.timestamp() * 1e6)
            yield Activity(WRITERS_HELD_UP, moment, moment)
        found = _EVENT.search(line)
        if found is None:
            continue
        event = msgspec.json.decode(found[1], type=_Event)
        kind, _, phase = event.event.partition("_")
        if kind not in (FLUSH, COMPACTION):
            continue
        if phase == "started":
            under_way[kind, event.job] = event.time_micros
        elif phase == "finished" and (kind, event.job) in under_way:
            yield Activity(kind, under_way.pop((kind, event.job)), event.time_micros)
