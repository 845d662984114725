"""A range's data on its way to a follower that the log can no longer serve.

Purpose
    The leader streams a consistent view of the range in checksummed, compressed chunks over a bulk
    connection. The receiver keeps the chunks in memory and hands the whole to Raft, which installs
    it in one engine batch; so a crash at any point leaves either the old state or the new one.
Invariants
    - The view is taken between two turns, when memory and engine agree on the applied index.
    - A snapshot is staged only if no other replica here covers any of its span (rule A4).
    - Everything goes through the WAL; no file is ingested (rule S15).
    - A snapshot speaks for a term that its sender led when it began, never for a later one.
Limits
    The receiver holds a compressed copy, and while installing the whole in one batch: ranges should
    stay within a few hundred megabytes. At most `snapshots_concurrent_max` are sent at a time.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec
import xxhash
import zstandard

from multiraft import errors
from multiraft.ids import NodeId, RangeId, ReplicaId, Timestamp
from multiraft.model import encoding
from multiraft.model.descriptor import RangeDescriptor
from multiraft.net.transport import Connection, FrameKind
from multiraft.raft.messages import Envelope, InstallSnapshot
from multiraft.ranges import messages, state
from multiraft.ranges.messages import SnapshotChunk, SnapshotEnd, SnapshotHeader, SnapshotReply
from multiraft.ranges.state import RangeState
from multiraft.storage import layout
from multiraft.storage.engine import Batch, Family, View

if TYPE_CHECKING:
    from multiraft.ranges.leaseholder import Leaseholder
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

_pack_rows = msgspec.msgpack.Encoder().encode
_unpack_rows = msgspec.msgpack.Decoder(list[bytes]).decode

RECEIVER_TIMEOUT_S = 60.0
"""A receiver that takes nothing, or owes its answer, for that long is given up."""
BUFFERED_BYTES_MAX = 4 << 20
ROOM_POLL_S = 0.01
ZSTD_LEVEL = 1


class StagedSnapshot:
    """A whole snapshot at its receiver, not yet installed."""

    __slots__ = ("_chunks", "clock", "state")

    def __init__(self, range_state: RangeState, clock: Timestamp, chunks: list[bytes]) -> None:
        self.state = range_state
        self.clock = clock
        self._chunks = chunks

    def put_rows(self, batch: Batch, family: Family) -> None:
        """Put all rows into `batch`."""
        unzip = zstandard.ZstdDecompressor()
        for chunk in self._chunks:
            rows = _unpack_rows(unzip.decompress(chunk))
            for position in range(0, len(rows), 2):
                batch.put(rows[position], rows[position + 1], family)


def rows_of(
    view: View, family: Family, descriptor: RangeDescriptor
) -> Iterator[tuple[bytes, bytes]]:
    """Yield everything in the view that is keyed inside the range."""
    for prefix in layout.BY_KEY:
        low, high = layout.span(prefix, descriptor.start, descriptor.end)
        yield from view.scan(low, high, family)


def chunks_of(rows: Iterator[tuple[bytes, bytes]], chunk_bytes: int) -> Iterator[bytes]:
    """Yield compressed rows, each chunk of about `chunk_bytes` before compression."""
    zipper = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    chunk: list[bytes] = []
    size = 0
    for key, value in rows:
        chunk += (key, value)
        size += len(key) + len(value)
        if size >= chunk_bytes:
            yield zipper.compress(_pack_rows(chunk))
            chunk, size = [], 0
    if chunk:
        yield zipper.compress(_pack_rows(chunk))


class SnapshotSenderStatus(msgspec.Struct, frozen=True):
    """What was sent since the start, and what is being sent or waits for its turn."""

    sent: int
    failed: int
    last_failure: str
    bytes_sent: int
    """Compressed, those of failed snapshots included."""
    under_way: int


class SnapshotSender:
    """Streams snapshots from this store, a bounded number at a time."""

    __slots__ = ("_slots", "_store", "_under_way", "bytes_sent", "failed", "last_failure", "sent")

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._slots = asyncio.Semaphore(store.context.config.ranges.snapshots_concurrent_max)
        self._under_way: set[tuple[RangeId, ReplicaId]] = set()
        self.sent = 0
        self.failed = 0
        self.last_failure = ""
        self.bytes_sent = 0

    def status(self) -> SnapshotSenderStatus:
        """Return what was sent and how it went."""
        return SnapshotSenderStatus(
            self.sent, self.failed, self.last_failure, self.bytes_sent, len(self._under_way)
        )

    def is_sending(self, range_id: RangeId) -> bool:
        """Return whether a snapshot of that range is on its way to anybody."""
        return any(job[0] == range_id for job in self._under_way)

    def start(self, replica: "Replica", target: ReplicaId) -> None:
        """Send a snapshot of `replica` to `target`; the core is told how it ended."""
        job = (replica.range_id, target)
        if job not in self._under_way:
            self._under_way.add(job)
            self._store.spawn(self._run(replica, target), name=f"snapshot r{job[0]} to {target}")

    async def _run(self, replica: "Replica", target: ReplicaId) -> None:
        delivered = False
        try:
            async with self._slots:
                node, holder = replica.node_of(target), replica.leaseholder
                if node is not None and holder is not None:
                    await self._send(replica, holder, target, node)
                    delivered = True
        except errors.MultiraftError as error:
            self.failed += 1
            self.last_failure = f"r{replica.range_id} to replica {target}: {error}"
        finally:
            self._under_way.discard((replica.range_id, target))
            if not replica.destroyed:
                replica.core.report_snapshot(target, delivered=delivered)
                self._store.context.mark_dirty(replica)

    async def _send(
        self, replica: "Replica", holder: "Leaseholder", target: ReplicaId, node: NodeId
    ) -> None:
        """Send one, in the name of the term in which it was asked for."""
        store = self._store
        handler = _ReplyHandler(asyncio.get_running_loop().create_future())
        connection = await store.connect_bulk(node, handler)
        view = store.context.engine.view()
        try:
            if replica.leaseholder is not holder:
                raise holder.lost()  # While it connected; the next leader sends its own.
            descriptor = replica.descriptor
            assert descriptor is not None, "a leader is initialised"
            header = SnapshotHeader(
                replica.replica_id,
                target,
                holder.term,
                RangeState(descriptor, replica.applied),
                store.context.hlc.now(),
            )
            connection.send(FrameKind.SNAPSHOT, messages.encode(header))
            await self._stream(replica, holder, connection, view, descriptor, handler)
            reply = await asyncio.wait_for(handler.reply, RECEIVER_TIMEOUT_S)
        except TimeoutError:
            raise errors.NodeUnavailableError(
                target=f"n{node}",
                reason=f"it took nothing of a snapshot, or did not answer, for "
                f"{RECEIVER_TIMEOUT_S:g} s",
            ) from None
        finally:
            view.close()
            connection.close("the snapshot is over")
        if reply.refusal:
            raise errors.ConflictingChangeError(range_id=replica.range_id, reason=reply.refusal)
        self.sent += 1
        replica.snapshots_sent += 1
        holder.truncation.snapshot_arrived(replica)

    async def _stream(
        self,
        replica: "Replica",
        holder: "Leaseholder",
        connection: Connection,
        view: View,
        descriptor: RangeDescriptor,
        handler: "_ReplyHandler",
    ) -> None:
        """Send all chunks at the configured pace, leaving the loop free between them.

        Raises NotLeaseholderError if the replica leads no more: the next leader sends its own.
        TimeoutError if the receiver takes nothing any more, as one that is stopped.
        """
        config = self._store.context.config.ranges
        chunks = 0
        family = self._store.context.engine.data
        rows = rows_of(view, family, descriptor)
        for data in chunks_of(rows, config.snapshot_chunk_bytes):
            if handler.reply.done():
                return
            if replica.leaseholder is not holder:
                raise holder.lost()
            chunk = SnapshotChunk(data, xxhash.xxh3_64_intdigest(data))
            connection.send(FrameKind.SNAPSHOT, messages.encode(chunk))
            chunks += 1
            self.bytes_sent += len(data)
            await asyncio.sleep(len(data) / config.snapshot_bytes_per_s)
            await _room_in(connection, handler)
        connection.send(FrameKind.SNAPSHOT, messages.encode(SnapshotEnd(chunks)))


async def _room_in(connection: Connection, handler: "_ReplyHandler") -> None:
    """Wait until the receiver has taken most of what was sent, or has answered."""
    loop, least = asyncio.get_running_loop(), connection.buffered_bytes
    async with asyncio.timeout(RECEIVER_TIMEOUT_S) as limit:
        while connection.buffered_bytes > BUFFERED_BYTES_MAX and not handler.reply.done():
            await asyncio.sleep(ROOM_POLL_S)
            if connection.buffered_bytes < least:
                least = connection.buffered_bytes
                limit.reschedule(loop.time() + RECEIVER_TIMEOUT_S)


class _ReplyHandler:
    """Waits for the receiver's one reply."""

    __slots__ = ("reply",)

    def __init__(self, reply: "asyncio.Future[SnapshotReply]") -> None:
        self.reply = reply

    def received(self, kind: FrameKind, payload: bytes) -> None:
        if kind is not FrameKind.SNAPSHOT_REPLY:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} on a bulk connection")
        if not self.reply.done():
            self.reply.set_result(messages.decode_snapshot_reply(payload))

    def closed(self, reason: str) -> None:
        if not self.reply.done():
            self.reply.set_result(SnapshotReply(f"the connection broke: {reason}"))


class Intake(Protocol):
    """Who decides what becomes of a snapshot; see snapshot_intake.py."""

    def admit(self, header: SnapshotHeader) -> str:
        """Return why a snapshot cannot be taken now, or "" and expect its data."""
        ...

    def over(self, header: SnapshotHeader) -> None:
        """A snapshot that was admitted is complete, or will never be."""
        ...

    def install(self, header: SnapshotHeader, staged: StagedSnapshot, source: NodeId) -> str:
        """Take a complete snapshot; return why not, or ""."""
        ...


class SnapshotReceiver:
    """One bulk connection's receiving end; the handler of the accepted connection."""

    __slots__ = ("_chunks", "_connection", "_header", "_intake", "_source")

    def __init__(self, intake: Intake, source: NodeId, connection: Connection) -> None:
        self._intake = intake
        self._source = source
        self._connection = connection
        self._header: SnapshotHeader | None = None
        self._chunks: list[bytes] = []

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take the next frame of a snapshot."""
        if kind is not FrameKind.SNAPSHOT:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} on a bulk connection")
        try:
            frame = messages.decode_snapshot_frame(payload)
        except encoding.UNREADABLE as error:
            raise errors.ProtocolError(reason=f"an unreadable snapshot frame: {error}") from error
        if isinstance(frame, SnapshotHeader):
            self._begin(frame)
        elif self._header is None:
            return  # refused; what was under way when the refusal left is dropped
        elif isinstance(frame, SnapshotChunk):
            if xxhash.xxh3_64_intdigest(frame.data) != frame.checksum:
                raise errors.ProtocolError(reason="a snapshot chunk was damaged on its way")
            self._chunks.append(frame.data)
        else:
            self._end(self._header, frame)

    def closed(self, reason: str) -> None:
        """The connection is gone; what was not complete is dropped."""
        if self._header is not None:
            self._intake.over(self._header)
        self._header = None
        self._chunks = []

    def _begin(self, header: SnapshotHeader) -> None:
        if self._header is not None:
            raise errors.ProtocolError(reason="a second snapshot header on one connection")
        refusal = self._intake.admit(header)
        if refusal:
            self._reply(refusal)
        else:
            self._header = header

    def _end(self, header: SnapshotHeader, end: SnapshotEnd) -> None:
        if end.chunks != len(self._chunks):
            raise errors.ProtocolError(
                reason=f"{len(self._chunks)} of {end.chunks} snapshot chunks arrived"
            )
        staged = StagedSnapshot(header.state, header.clock, self._chunks)
        self._chunks = []
        self._header = None
        self._intake.over(header)
        self._reply(self._intake.install(header, staged, self._source))

    def _reply(self, refusal: str) -> None:
        self._connection.send(FrameKind.SNAPSHOT_REPLY, messages.encode(SnapshotReply(refusal)))


def install_message(header: SnapshotHeader) -> Envelope:
    """Return what is stepped into the receiving core once the data lies ready."""
    applied = header.state.applied
    return Envelope(
        header.source,
        header.target,
        InstallSnapshot(
            header.term,
            applied.index,
            applied.term,
            state.configuration(header.state.descriptor),
        ),
    )
