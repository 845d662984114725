"""The connections of clients, and of other nodes, to a store.

Purpose
    Decode what arrives, hand it to the store, and send answers back: those that become ready in one
    loop iteration leave in one frame.
Invariants
    - A client that sends more than it reads stops being read: about `PENDING_MAX` of its requests,
      with `PENDING_BYTES_MAX` bytes in all, are under way at most. Once `UNREAD_BYTES_MAX` of
      replies wait for it, no further request of it is evaluated, not even one that was received; so
      one small frame of many reads of large values costs no more memory than others. When it then
      reads nothing for `UNREAD_S_MAX`, it is closed.
    - A damaged or foreign frame ends the connection with a reason, never the process.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from multiraft import errors
from multiraft.ids import NodeId
from multiraft.model import encoding
from multiraft.model.requests import BatchReply, BatchRequest, ReplyFrame, ScanResult
from multiraft.net.transport import Connection, FrameKind, Welcome
from multiraft.ranges import put_group
from multiraft.ranges.store import Store

PENDING_MAX = 10_000
PENDING_BYTES_MAX = 64 << 20
REPLY_BYTES_MAX = 8 << 20
BEGUN_MAX = 64
"""So many requests of a frame are begun before the loop gets to run: what they propose is on its
way to others while the next are looked at."""
LONE_PUT_SHARE = 0.25
"""A put is that much of a request here: it is evaluated in the turn, at less cost with others."""
REPLIES_UNSENT_MAX = 16
ROWS_UNSENT_MAX = 300
"""So many replies to reads, with so many rows, are collected before they leave, and before it is
looked how much the client leaves unread. With more, client and node would wait for each other."""
UNREAD_BYTES_MAX = 4 << 20
UNREAD_S_MAX = 5.0
_UNREAD_POLL_S = 0.005


class RequestConnection:
    """The handler of one accepted connection of class REQUESTS."""

    __slots__ = (
        "_backlog",
        "_closed",
        "_connection",
        "_flush_scheduled",
        "_join",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_polls_without_progress",
        "_replies",
        "_rows_unsent",
        "_store",
        "_unread_bytes",
        "_waits_for_reader",
        "_welcome",
    )

    def __init__(
        self,
        store: Store,
        connection: Connection,
        welcome: Callable[[], Welcome],
        join: Callable[[Connection, bytes], None],
    ) -> None:
        self._store = store
        self._connection = connection
        self._welcome = welcome
        self._join = join
        self._replies: list[tuple[int, BatchReply]] = []
        self._backlog: deque[tuple[int, int, BatchRequest]] = deque()
        """Requests that were received and not begun, with their share of the bytes."""
        self._unread_bytes = 0
        self._rows_unsent = 0
        self._waits_for_reader = False
        self._polls_without_progress = 0
        self._pending = 0
        self._pending_bytes = 0
        self._flush_scheduled = False
        self._paused = False
        self._closed = False

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame of requests."""
        if kind is FrameKind.REQUESTS:
            try:
                frame = encoding.unpack_request_frame(payload)
            except encoding.UNREADABLE as error:
                raise errors.ProtocolError(reason=f"an unreadable request: {error}") from error
            calls = len(frame.calls)
            share = len(payload) // (calls or 1)
            self._pending += calls
            self._pending_bytes += calls * share
            is_idle = not self._backlog
            self._backlog.extend([(call_id, share, request) for call_id, request in frame.calls])
            if is_idle and calls:
                self._work()
        elif kind is FrameKind.CLUSTER_INFO:
            self._connection.send(FrameKind.CLUSTER_INFO, encoding.pack(self._welcome()))
        elif kind is FrameKind.JOIN:
            self._join(self._connection, payload)
        else:
            raise errors.ProtocolError(reason=f"unexpected frame {kind} from a client")

    def closed(self, reason: str) -> None:
        """The client is gone; what it asked for goes on, the answers are dropped."""
        self._closed = True
        self._replies = []
        self._backlog.clear()

    def _work(self) -> None:
        """Begin what was received, until too much waits for the client to read it."""
        backlog, submit, replies_max = self._backlog, self._store.submit, REPLIES_UNSENT_MAX
        self._waits_for_reader = False
        if self._connection.buffered_bytes > UNREAD_BYTES_MAX:
            self._wait_for_reader()
            return
        left = float(BEGUN_MAX)
        while backlog and left > 0.0:
            call_id, share, request = backlog.popleft()
            left -= LONE_PUT_SHARE if put_group.is_lone_put(request) else 1.0
            self._flush_scheduled = True  # What is answered at once leaves at the end of this.
            submit(request, partial(self._reply, call_id, share))
            if len(self._replies) >= replies_max or self._rows_unsent >= ROWS_UNSENT_MAX:
                self._flush()
                if backlog and self._connection.buffered_bytes > UNREAD_BYTES_MAX:
                    self._wait_for_reader()
                    return
        self._flush()
        self._follow_load()
        if backlog:
            asyncio.get_running_loop().call_soon(self._work)

    def _wait_for_reader(self) -> None:
        self._waits_for_reader = True
        self._follow_load()
        self._unread_bytes = self._connection.buffered_bytes
        self._polls_without_progress = 0
        asyncio.get_running_loop().call_later(_UNREAD_POLL_S, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Go on when the client has caught up; give it up when it reads nothing at all."""
        if self._closed:
            return
        unread = self._connection.buffered_bytes
        if unread <= UNREAD_BYTES_MAX:
            self._work()
            return
        self._polls_without_progress += 1
        if unread < self._unread_bytes:
            self._polls_without_progress = 0
        elif self._polls_without_progress * _UNREAD_POLL_S > UNREAD_S_MAX:
            self._connection.close(f"slow reader: {unread} bytes of replies wait to be read")
            return
        self._unread_bytes = unread
        asyncio.get_running_loop().call_later(_UNREAD_POLL_S, self._look_at_reader)

    def _follow_load(self) -> None:
        """Stop reading from a client that is far ahead of its answers; begin again in time."""
        pending, pending_bytes = self._pending, self._pending_bytes
        if not self._paused:
            if self._waits_for_reader or pending > PENDING_MAX or pending_bytes > PENDING_BYTES_MAX:
                self._paused = True
                self._connection.pause_reading()
        elif (
            not self._waits_for_reader
            and pending < PENDING_MAX // 2
            and pending_bytes < PENDING_BYTES_MAX // 2
        ):
            self._paused = False
            self._connection.resume_reading()

    def _reply(self, call_id: int, request_bytes: int, reply: BatchReply) -> None:
        if self._closed:
            return
        self._pending -= 1
        self._pending_bytes -= request_bytes
        self._replies.append((call_id, reply))
        for result in reply.results:
            if type(result) is ScanResult:
                self._rows_unsent += len(result.rows) // 2
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._store.at_the_end(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        replies, self._replies = self._replies, []
        self._rows_unsent = 0
        if not replies:
            return
        self._send(replies)
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
