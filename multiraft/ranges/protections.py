"""Protected times: granting them, and reading what garbage collection must leave alone.

Purpose
    The two ends of the argument in model/protection.py. Both are requests to the first range like
    any others, so they may run on any node.
"""

import msgspec

from multiraft import errors
from multiraft.client import span_read
from multiraft.client.router import Router
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys, protection
from multiraft.model.protection import Protection
from multiraft.model.requests import (
    AdminProtect,
    ConditionalPut,
    ConditionalPutResult,
    Get,
    GetResult,
    ProtectResult,
)
from multiraft.ranges.bootstrap import FIRST_RANGE_ID


class Stored(msgspec.Struct, frozen=True):
    """A protection as it was found."""

    key: bytes
    packed: bytes
    protection: Protection


async def grant(
    router: Router, asked: AdminProtect, now: Timestamp, time_to_live: Timestamp
) -> ProtectResult:
    """Protect a time, or renew that; with a duration of 0, end it.

    Raises ReadTooOldError if what is asked for may be gone, ConflictingChangeError if somebody else
    changes the same protection.
    """
    key = keys.protection_key(asked.id)
    reply = await router.execute((Get(key),))
    found = reply.results[0]
    assert isinstance(found, GetResult), "a Get was asked"
    if not asked.duration_ms:
        await _replace(router, key, found.value, None)
        return ProtectResult(Timestamp(0))
    continues_until = Timestamp(0)
    if found.value is not None:
        before = protection.unpack(found.value)
        if before.timestamp <= asked.timestamp and before.is_kept(found.timestamp, time_to_live):
            continues_until = before.expires
    expires = Timestamp(now + hlc.from_ms(asked.duration_ms))
    made = Protection(asked.timestamp, expires, continues_until, asked.owner)
    packed = protection.pack(made)
    written_at = await _replace(router, key, found.value, packed)
    if not made.is_kept(written_at, time_to_live):
        await _replace(router, key, packed, None)
        raise errors.ReadTooOldError(timestamp=asked.timestamp, threshold=written_at - time_to_live)
    return ProtectResult(expires)


async def _replace(
    router: Router, key: bytes, expected: bytes | None, value: bytes | None
) -> Timestamp:
    """Replace what is at `key`, and return when."""
    reply = await router.execute((ConditionalPut(key, value, expected),))
    result = reply.results[0]
    assert isinstance(result, ConditionalPutResult), "a ConditionalPut was asked"
    if not result.succeeded:
        raise errors.ConflictingChangeError(
            range_id=FIRST_RANGE_ID, reason="the protection was changed by somebody else"
        )
    return reply.timestamp


async def read(router: Router) -> tuple[Timestamp, list[Stored]]:
    """Return all protections, expired ones included, and the one time at which they were read."""
    prefix = keys.PROTECTION_PREFIX
    at, rows = await span_read.read(router, prefix, keys.prefix_end(prefix))
    return at, [Stored(key, packed, protection.unpack(packed)) for key, packed in rows]


def ceiling(at: Timestamp, found: list[Stored], time_to_live: Timestamp) -> Timestamp:
    """Return the greatest threshold allowed by what was found, when read at `at`; 0: none."""
    most = at - time_to_live
    for stored in found:
        if stored.protection.expires >= at:
            most = min(most, stored.protection.timestamp - 1)
    return Timestamp(max(0, most))


async def forget_expired(router: Router, at: Timestamp, found: list[Stored]) -> None:
    """Remove those that had expired at `at`, unless they were renewed since."""
    for stored in found:
        if stored.protection.expires < at:
            await router.execute((ConditionalPut(stored.key, None, stored.packed),))
