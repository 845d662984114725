"""The connections of clients, and of other nodes, to a store.

Purpose
    Decode what arrives, hand it to the store, and send answers back: those that become ready in one
    loop iteration leave in one frame.
Invariants
    - A client that sends more than it reads stops being read: about 10,000 of its requests, with
      `PENDING_BYTES_MAX` bytes in all, are under way at most, and fewer if other clients have many
      under way (admission.py). While it leaves more replies unread than it may (unread.py), no
      further request of it is evaluated, or refused, not even one that was received.
    - Frames are decoded when it is their turn: requests that wait take ten times their bytes.
    - Clients take turns (admission.py), and the loop gets to run in between: heartbeats go out and
      come in, so no load makes a leader seem dead.
    - What has waited for the other clients longer than `QUEUED_S_MAX`, and has more of its own
      client's behind it, is refused: with more work than can be done, what is done is done in time,
      instead of all of it too late. A client that is alone, or that waits for each answer, is not
      refused.
    - A connection serves one node to join: each is a task, and nothing else bounds their number.
    - A damaged or foreign frame ends the connection with a reason, never the process.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from multiraft import errors
from multiraft.ids import NodeId
from multiraft.model import encoding
from multiraft.model.requests import BatchReply, BatchRequest, GetResult, ReplyFrame, ScanResult
from multiraft.net.transport import Connection, FrameKind, Welcome
from multiraft.ranges import put_group
from multiraft.ranges.admission import PENDING_MIN, Admission
from multiraft.ranges.store import Store
from multiraft.ranges.unread import Reader

PENDING_BYTES_MAX = 64 << 20
FRAMES_BYTES_MAX = 256 << 10
"""So much of a client's frames waits to be decoded before no more is read."""
REPLY_BYTES_MAX = 8 << 20
BEGUN_MAX = 64
"""So many requests of a frame are begun before the loop gets to run: what they propose is on its
way to others while the next are looked at."""
REFUSED_OF_ONE = 16
"""To refuse so many is as much work as a request."""
QUEUED_S_MAX = 0.5
RETRY_AFTER_MS = 500
"""When a client should send again what was refused because it had waited too long."""
LONE_PUT_SHARE = 0.25
"""A put is that much of a request here: it is evaluated in the turn, at less cost with others."""
OPERATIONS_OF_ONE = 3
"""A request with more operations counts for as many as would have that many each."""
REPLIES_UNSENT_MAX = 16
ROWS_UNSENT_MAX = 300
"""So many replies to reads, with so many rows, are collected before they leave, and before it is
looked how much the client leaves unread. With more, client and node would wait for each other."""
ROW_BYTES = 256
"""A value that is read alone counts as a row for each of these."""
LARGE_FLUSH_SHARE = BEGUN_MAX / 4
"""Replies that left because they are large count for so many requests: others get their turn."""


class RequestConnection:
    """The handler of one accepted connection of class REQUESTS."""

    __slots__ = (
        "_admission",
        "_backlog",
        "_closed",
        "_connection",
        "_flush_scheduled",
        "_frames",
        "_frames_bytes",
        "_has_joined",
        "_in_turn_since_s",
        "_is_working",
        "_join",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_reader",
        "_replies",
        "_rows_unsent",
        "_store",
        "_welcome",
    )

    def __init__(
        self,
        store: Store,
        connection: Connection,
        welcome: Callable[[], Welcome],
        join: Callable[[Connection, bytes], None],
        admission: Admission,
    ) -> None:
        self._store = store
        self._connection = connection
        self._welcome = welcome
        self._join = join
        self._admission = admission
        self._reader = Reader(connection, admission.unread, self._go_on)
        self._replies: list[tuple[int, BatchReply]] = []
        self._frames: deque[tuple[float, bytes]] = deque()
        """Those that were received and not decoded, and when they came."""
        self._in_turn_since_s = 0.0
        """Since when the others are the only reason why frames wait."""
        self._frames_bytes = 0
        self._backlog: deque[tuple[int, int, BatchRequest]] = deque()
        """Requests that were decoded and not begun, with their share of the bytes."""
        self._is_working = False
        """Whether what was received is being begun, or will be without another call."""
        self._rows_unsent = 0
        self._pending = 0
        self._pending_bytes = 0
        self._flush_scheduled = False
        self._paused = False
        self._closed = False
        self._has_joined = False

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame of requests."""
        if kind is FrameKind.REQUESTS:
            self._frames.append((asyncio.get_running_loop().time(), payload))
            self._frames_bytes += len(payload)
            if self._is_working or self._paused:
                self._follow_load()
            else:
                self._is_working = True
                if self._admission.is_crowded:
                    self._admission.queue(self._work_or_close)
                else:
                    self._work()
        elif kind is FrameKind.CLUSTER_INFO:
            self._connection.send(FrameKind.CLUSTER_INFO, encoding.pack(self._welcome()))
        elif kind is FrameKind.JOIN:
            if self._has_joined:
                raise errors.ProtocolError(reason="a second Join on one connection")
            self._has_joined = True
            self._join(self._connection, payload)
        else:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} from a client")

    def closed(self, reason: str) -> None:
        """The client is gone; what it asked for goes on, the answers are dropped."""
        self._closed = True
        self._replies = []
        self._backlog.clear()
        self._frames.clear()
        self._frames_bytes = 0
        self._reader.gone()
        self._admission.pending.held -= self._pending
        self._pending = 0

    def _go_on(self) -> None:
        """What the client has yet to read, or to be answered, is no reason to wait any more.

        Answers may be told from within a turn of the store, whose batch is not written yet: so
        nothing is begun here, but in an iteration of its own.
        """
        self._in_turn_since_s = asyncio.get_running_loop().time()
        self._is_working = True
        self._admission.queue(self._work_or_close)

    def _work_or_close(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._connection.close(f"internal error: {type(error).__name__}")
            raise

    def _work(self) -> None:
        """Begin what was received, until too much waits for the client to read it."""
        backlog, frames = self._backlog, self._frames
        submit, replies_max = self._store.submit, REPLIES_UNSENT_MAX
        left = float(BEGUN_MAX)
        if not backlog and frames and self._may_decode:
            left -= self._decode_next()
        if self._reader.is_behind and self._has_more:
            self._admission.begun(BEGUN_MAX - left)
            self._flush()
            self._reader.wait()
            self._follow_load()
            return
        while left > 0.0:
            if not backlog:
                if not frames or not self._may_decode:
                    break
                left -= self._decode_next()
                continue
            call_id, share, request = backlog.popleft()
            operations = len(request.operations)
            if operations > OPERATIONS_OF_ONE:
                left -= operations / OPERATIONS_OF_ONE
            else:
                left -= LONE_PUT_SHARE if put_group.is_lone_put(request) else 1.0
            self._flush_scheduled = True  # What is answered at once leaves at the end of this.
            submit(request, partial(self._reply, call_id, share))
            if self._rows_unsent >= ROWS_UNSENT_MAX:
                left -= LARGE_FLUSH_SHARE
            elif len(self._replies) < replies_max:
                continue
            self._flush()
            if self._reader.is_behind:
                break
        self._admission.begun(BEGUN_MAX - left)
        self._flush()
        if self._has_more:
            if not self._admission.has_queued:
                self._in_turn_since_s = asyncio.get_running_loop().time()
            self._admission.queue(self._work_or_close)
        else:
            self._is_working = False
        if frames or self._paused or self._pending_bytes > PENDING_BYTES_MAX:
            self._follow_load()

    @property
    def _has_more(self) -> bool:
        """Whether something can be begun."""
        return bool(self._backlog) or (bool(self._frames) and self._may_decode)

    @property
    def _may_decode(self) -> bool:
        pending = self._pending
        return pending < PENDING_MIN or pending < self._admission.pending.each_now

    def _decode_next(self) -> float:
        """Have the requests of the next frame wait for their turn, or refuse them.

        Return for how many requests that counts.
        """
        came_s, payload = self._frames.popleft()
        self._frames_bytes -= len(payload)
        try:
            if self._frames and self._queued_s(came_s) > QUEUED_S_MAX:
                return self._refuse(encoding.unpack_call_ids(payload))
            calls = encoding.unpack_request_frame(payload).calls
        except encoding.UNREADABLE as error:
            self._frames.clear()
            self._connection.close(f"an unreadable request: {error}")
            return 0.0
        share = len(payload) // (len(calls) or 1)
        self._took(len(calls))
        self._pending_bytes += share * len(calls)
        self._backlog.extend([(call_id, share, request) for call_id, request in calls])
        return 0.0

    def _took(self, calls: int) -> None:
        self._pending += calls
        self._admission.pending.held += calls

    def _queued_s(self, came_s: float) -> float:
        """Return for how many seconds a frame that came then has waited for other clients."""
        return asyncio.get_running_loop().time() - max(came_s, self._in_turn_since_s)

    def _refuse(self, call_ids: list[int]) -> float:
        context = self._store.context
        error = errors.OverloadedError(what=f"n{context.node_id}", retry_after_ms=RETRY_AFTER_MS)
        refusal = context.refusal(error)
        self._took(len(call_ids))
        self._flush_scheduled = True  # As for what is begun.
        for call_id in call_ids:
            self._reply(call_id, 0, refusal)
        return len(call_ids) / REFUSED_OF_ONE

    def _follow_load(self) -> None:
        """Stop reading from a client that is far ahead of its answers; begin again in time."""
        pending, pending_bytes = self._pending, self._pending_bytes
        if not self._paused:
            if (
                self._reader.is_waited_for
                or self._frames_bytes > FRAMES_BYTES_MAX
                or pending_bytes > PENDING_BYTES_MAX
                or (self._frames and not self._may_decode)
            ):
                self._paused = True
                self._connection.pause_reading()
        elif (
            not self._reader.is_waited_for
            and pending < self._admission.pending.each_now // 2
            and pending_bytes < PENDING_BYTES_MAX // 2
        ):
            if self._frames_bytes < FRAMES_BYTES_MAX // 2:
                self._paused = False
                self._connection.resume_reading()
            if self._frames and not self._is_working:
                self._go_on()

    def _reply(self, call_id: int, request_bytes: int, reply: BatchReply) -> None:
        if self._closed:
            return
        self._pending_bytes -= request_bytes
        self._replies.append((call_id, reply))
        for result in reply.results:
            if type(result) is ScanResult:
                self._rows_unsent += len(result.rows) // 2
            elif type(result) is GetResult and result.value is not None:
                self._rows_unsent += len(result.value) // ROW_BYTES
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._store.turns.at_the_end(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        replies, self._replies = self._replies, []
        self._rows_unsent = 0
        if not replies:
            return
        self._pending -= len(replies)
        self._admission.pending.held -= len(replies)
        self._send(replies)
        self._reader.sent()
        if self._paused:
            self._follow_load()

    def _send(self, replies: list[tuple[int, BatchReply]]) -> None:
        payload = encoding.pack(ReplyFrame(tuple(replies)))
        if len(payload) > REPLY_BYTES_MAX and len(replies) > 1:
            half = len(replies) // 2
            self._send(replies[:half])
            self._send(replies[half:])
            return
        self._connection.send(FrameKind.REPLIES, payload)


class PeerConnection:
    """The handler of one accepted connection of class RAFT: frames of another store."""

    __slots__ = ("_source", "_store")

    def __init__(self, store: Store, source: NodeId) -> None:
        self._store = store
        self._source = source

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame of Raft and liveness messages."""
        if kind is not FrameKind.RAFT:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} on a Raft connection")
        self._store.receive_frame(self._source, payload)

    def closed(self, reason: str) -> None:
        """The peer dials again when it has something to say."""
