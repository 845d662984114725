"""What clients saw of single keys, and whether that can be: serializable and linearizable.

Purpose
    Every version has a timestamp, and every reply tells at which timestamp it was read or written
    and, of a read, the timestamp of the version that it found. So no search is needed:
    - a read at `r` must have found the newest version at or below `r` that exists in the end;
    - what was answered before something else was asked must lie before it.
"""

from typing import NamedTuple

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.requests import Get, GetResult, Operation, Put
from multiraft.mvcc import versions
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.versions import KIND_MASK, OUTCOME
from multiraft.sim.cluster import Cluster
from multiraft.storage import layout
from tests.support.serving import leader_of, plain


class Event(NamedTuple):
    """One read or write that was answered well."""

    key: bytes
    invoked: float
    returned: float
    at: Timestamp
    """Read or written at."""
    seen: Timestamp
    """Of the version that was read, or written; 0 for none."""
    is_write: bool
    value: bytes | None


class History:
    """The reads and writes of all clients of a test."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._values = 0
        self.events: list[Event] = []

    async def read(self, db: Database, key: bytes) -> None:
        """Read a key, and note what came of it."""
        await self._execute(db, key, Get(plain(key)), None)

    async def write(self, db: Database, key: bytes) -> None:
        """Write a value that nobody else writes."""
        self._values += 1
        value = b"%d" % self._values
        await self._execute(db, key, Put(plain(key), value), value)

    async def _execute(
        self, db: Database, key: bytes, operation: Operation, value: bytes | None
    ) -> None:
        invoked = self._cluster.loop.time()
        try:
            reply = await db._router.execute((operation,))
        except (errors.RetryableError, errors.OutcomeUnknownError, errors.DeadlineExceededError):
            return  # It promises nothing.
        result = reply.results[0]
        returned = self._cluster.loop.time()
        if isinstance(result, GetResult):
            event = Event(
                key, invoked, returned, reply.timestamp, result.timestamp, False, result.value
            )
        else:
            event = Event(key, invoked, returned, reply.timestamp, reply.timestamp, True, value)
        self.events.append(event)

    def note_read(self, key: bytes, moment: float, at: Timestamp, result: GetResult) -> None:
        """Note a read that was served by a store directly, within no time."""
        self.events.append(Event(key, moment, moment, at, result.timestamp, False, result.value))

    def check(self) -> None:
        """Fail the test if no single order explains what was seen."""
        for key in sorted({event.key for event in self.events}):
            events = [event for event in self.events if event.key == key]
            _check_versions(events, self._versions(key))
            _check_real_time(events)

    def _versions(self, key: bytes) -> dict[Timestamp, bytes]:
        range_id = self._cluster.range_at(key).range_id
        member = leader_of(self._cluster, range_id)
        prefix = layout.version_prefix(plain(key))
        found = {}
        for physical, stored in EngineReader(member.engine).scan(prefix, prefix + b"\xff" * 9):
            if stored[0] & KIND_MASK != OUTCOME:
                timestamp = Timestamp(hlc.MAX - int.from_bytes(physical[-8:], "big"))
                found[timestamp] = versions.decode(timestamp, stored).value
        return found


def _check_versions(events: list[Event], found: dict[Timestamp, bytes]) -> None:
    times = sorted(found)
    for event in events:
        if event.is_write:
            assert found.get(event.seen) == event.value, f"an acknowledged write is lost: {event}"
            continue
        below = [timestamp for timestamp in times if timestamp <= event.at]
        newest = below[-1] if below else Timestamp(0)
        assert event.seen == newest, f"{event} missed the version at {newest}"


def _check_real_time(events: list[Event]) -> None:
    by_end = sorted(events, key=lambda event: event.returned)
    latest: Event | None = None
    position = 0
    for event in sorted(events, key=lambda event: event.invoked):
        while position < len(by_end) and by_end[position].returned < event.invoked:
            ended = by_end[position]
            if latest is None or ended.seen > latest.seen:
                latest = ended
            position += 1
        if latest is None:
            continue
        if event.is_write:
            assert event.seen > latest.seen, f"{event} is dated before {latest}, which had ended"
        else:
            assert event.seen >= latest.seen, f"{event} is stale: {latest} had ended"
