"""Rare paths made common: settings drawn so that limits are met, buffers overflow, logs are cut.

Purpose
    What takes gigabytes or hours in production (a log cut under a follower, a full window, a scan
    of many pages, a cache that forgets) is to happen in seconds of simulation. Every point is a
    setting of config.py, so production code has no hook and pays nothing.
Invariants
    - A draw depends on its generator only, and gives settings that `config.check` accepts.
    - Settings that make the database refuse what it promises to serve are not drawn.
Source
    FoundationDB's buggified knobs.
"""

import random

import msgspec

from multiraft import config
from multiraft.config import KIB, Config

CHANCE = 0.3
"""How likely each point is drawn at all."""


class Point(msgspec.Struct, frozen=True):
    """One setting, and the values that make something rare common."""

    name: str
    part: str
    """The struct of Config that has the setting."""
    values: tuple[int | float | bool, ...]
    rare: str
    """What becomes common."""


POINTS = (
    Point(
        "append_bytes_max", "raft", (100, 500, 2 * KIB), "appends of one entry, many to catch up"
    ),
    Point("inflight_bytes_max", "raft", (1, KIB), "a full replication window"),
    Point("inflight_messages_max", "raft", (2, 3), "a full replication window"),
    Point("committed_bytes_max", "raft", (1, 300), "applying in slices, far behind the commit"),
    Point("retry_ticks", "raft", (1, 10), "repeated and late retries"),
    Point("support_loss_jitter_ticks", "raft", (2, 10), "elections that collide, or come late"),
    Point("log_keep_bytes", "ranges", (300, KIB), "a log that is cut after every few entries"),
    Point("log_bytes_max", "ranges", (2 * KIB, 8 * KIB), "a log cut under a follower: snapshots"),
    Point("hold_messages_ms", "ranges", (10, 200), "messages held for a split that are given up"),
    Point("hold_messages_max", "ranges", (1, 3), "more messages held than there is room for"),
    Point("snapshot_chunk_bytes", "ranges", (64, KIB), "snapshots in many chunks"),
    Point("snapshot_bytes_per_s", "ranges", (8 * KIB, 64 * KIB), "snapshots that take seconds"),
    Point("snapshots_concurrent_max", "ranges", (1,), "snapshots that wait for each other"),
    Point("gc_ttl_s", "ranges", (2.0, 5.0, 15.0), "versions that go while somebody needs them"),
    Point("recent_writes_max", "ranges", (1, 4), "searching versions for an earlier attempt"),
    Point("newest_versions_max", "ranges", (1, 3), "searching for what a write replaces"),
    Point("timestamp_cache_entries_max", "ranges", (2, 8), "a timestamp cache that forgets"),
    Point("locks_max", "ranges", (1, 4), "locks that the lock table has no room for"),
    Point("lock_wait_ms", "ranges", (30, 300), "waits that are told, and go on"),
    Point("transaction_expiry_ms", "ranges", (2_400, 5_000), "abandoned transactions in the way"),
    Point("scan_bytes_max", "limits", (100, KIB), "scans of many pages"),
    Point("scan_keys_max", "limits", (1, 3), "scans of many pages"),
    Point("scan_passed_max", "limits", (2, 10), "pages without a row"),
    Point("attempt_timeout_ms", "client", (60, 250), "attempts repeated while the first is alive"),
    Point("backoff_ms_max", "client", (5, 1_000), "storms of retries, and clients that are late"),
    Point("scan_prefetch", "client", (False,), "scans without read-ahead"),
    Point("protect_after_s", "client", (0.02, 0.5), "scans and snapshots that protect their time"),
    Point("transaction_buffer_bytes_max", "client", (1, 100), "writes laid before the commit"),
    Point("transaction_call_keys_max", "client", (1, 2), "reads, writes, refreshes in many calls"),
    Point("transaction_spans_max", "client", (1, 4), "refreshes of more than was read"),
    Point("transaction_heartbeat_ms", "client", (100, 600), "many signs of life, or late ones"),
    Point("transaction_contended_ms", "client", (1, 10_000), "keys locked at once, or never"),
    Point("issued_at_margin_ms", "client", (0, 1_000), "requests dated late, or long ago"),
)


def draw(base: Config, rng: random.Random) -> tuple[Config, tuple[str, ...]]:
    """Return `base` with some points drawn, and what was drawn, as `part.name=value`."""
    drawn = base
    told: list[str] = []
    for point in POINTS:
        if rng.random() >= CHANCE:
            continue
        value = rng.choice(point.values)
        part = msgspec.structs.replace(getattr(drawn, point.part), **{point.name: value})
        drawn = msgspec.structs.replace(drawn, **{point.part: part})
        told.append(f"{point.part}.{point.name}={value}")
    config.check(drawn)
    return drawn, tuple(told)
