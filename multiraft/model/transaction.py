"""What both ends know of a transaction: who it is, what it has locked, how it ended.

Purpose
    `TransactionMeta` travels with every request of a transaction and lies in each of its locks, so
    that whoever meets one knows whom to ask. A `TransactionRecord`, kept at the anchor, is the one
    place where the transaction is decided; an `Intent` is a write that waits for that.
States
    absent      nobody has decided or heard of anything: judged by the age of the intents
    PENDING     alive as of `heartbeat`; will not commit below `timestamp`
    STAGING     committed if, and only if, every write in `writes` lies at or below `timestamp`
    COMMITTED   at `timestamp`, for good
    ABORTED     for good
Format
    msgpack arrays, on the wire and on disk: fields are only ever appended. An intent is the value
    of a lock key, a record that of a record key (storage/layout.py).
"""

import enum

import msgspec

from multiraft.ids import Timestamp


class TransactionStatus(enum.IntEnum):
    """See the module."""

    PENDING = 1
    STAGING = 2
    COMMITTED = 3
    ABORTED = 4

    @property
    def is_final(self) -> bool:
        """Whether it never changes again."""
        return self >= TransactionStatus.COMMITTED


class TransactionMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who a transaction is.

    `anchor` is the logical key at which its record is kept: the first one that it locks or writes;
    empty while there is none, and then it stands in nobody's way. Of two that cannot both go on,
    the one with the higher priority does, then the older one.
    """

    id: bytes
    anchor: bytes = b""
    priority: int = 0
    began: Timestamp = Timestamp(0)
    """The `issued_at` of its first attempt: a transaction that is run again keeps its age."""

    @property
    def precedence(self) -> tuple[int, int, bytes]:
        """What orders transactions: of a deadlock, the one with the least ends."""
        return self.priority, -self.began, self.id


class IntentRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write of a transaction, as its record names it."""

    key: bytes
    sequence: int


class Intent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write that becomes a version when its transaction commits. `value` None removes the key."""

    txn: TransactionMeta
    timestamp: Timestamp
    sequence: int
    value: bytes | None
    laid_at: Timestamp = Timestamp(0)
    """The clock of the leaseholder that laid it: a sign of life of its transaction, which may have
    thought for long about what it read at `timestamp`."""


class TransactionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a transaction stands; see the module for what `timestamp` means in each state."""

    txn: TransactionMeta
    status: TransactionStatus
    timestamp: Timestamp
    heartbeat: Timestamp
    """The last sign of life, on the clock of the leaseholder that took it."""
    issued_at: Timestamp
    writes: tuple[IntentRef, ...] = ()
    """Of STAGING: what it waits for. Of COMMITTED and ABORTED: what may have to be resolved."""
    reason: str = ""
    """Of ABORTED: who did it, and why."""


_encoder = msgspec.msgpack.Encoder()
pack_intent = _encoder.encode
pack_record = _encoder.encode
unpack_intent = msgspec.msgpack.Decoder(Intent).decode
unpack_record = msgspec.msgpack.Decoder(TransactionRecord).decode
