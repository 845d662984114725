"""Every knob, one frozen struct per package, units in the names.

A setting that makes the system unsafe or unable to work is refused by `check` with the reason.
"""

import math

import msgspec

from multiraft import errors

KIB = 1 << 10
MIB = 1 << 20


class RaftConfig(msgspec.Struct, frozen=True):
    """One group. A tick happens only while there is something to wait for."""

    tick_ms: int = 100
    election_timeout_ticks: int = 10
    """Before a candidate tries again; jitter of the same length is added."""
    support_loss_jitter_ticks: int = 4
    """After support for a leader is withdrawn its followers wait up to this long (rule L4)."""
    retry_ticks: int = 3
    """A leader repeats to a silent follower after this many ticks, then with back-off."""
    append_bytes_max: int = 256 * KIB
    inflight_bytes_max: int = 4 * MIB
    inflight_messages_max: int = 128
    committed_bytes_max: int = 4 * MIB
    """Committed entries handed out per Ready: fairness between ranges."""
    uncommitted_bytes_max: int = 16 * MIB


class LivenessConfig(msgspec.Struct, frozen=True):
    """Support between stores."""

    heartbeat_ms: int = 200
    support_ms: int = 1_000
    clock_offset_ms_max: int = 250


class StorageConfig(msgspec.Struct, frozen=True):
    """The engine."""

    raft_write_buffer_bytes: int = 32 * MIB
    """Several times `log_keep_bytes`, or most of a log is flushed before it is truncated."""
    data_write_buffer_bytes: int = 64 * MIB
    block_cache_bytes: int = 128 * MIB
    wal_bytes_max: int = 256 * MIB
    free_reserve_bytes: int = 256 * MIB
    """Client writes are refused below this much free space."""
    unsafe_no_fsync: bool = False
    watermark_interval_ms: int = 1_000


class NetConfig(msgspec.Struct, frozen=True):
    """Connections and frames."""

    frame_bytes_max: int = 32 * MIB
    hello_bytes_max: int = 4 * KIB
    """The most that is read from a stranger: one frame of this size."""
    welcome_bytes_max: int = 1 * MIB
    handshake_timeout_ms: int = 5_000
    connect_timeout_ms: int = 2_000
    goodbye_timeout_ms: int = 1_000
    """How long a closed connection may take to send what was queued and its reason."""
    dead_peer_ms: int = 15_000
    """A peer that acknowledges nothing for this long is taken for dead (TCP keep-alive)."""
    connections_max: int = 12_000
    send_buffer_bytes_max: int = 64 * MIB
    """A peer that lets this much pile up is closed as a slow reader."""
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    tls_ca_file: str = ""
    """When set, the other end must present a certificate that this authority signed."""


class RangesConfig(msgspec.Struct, frozen=True):
    """Replicas and the store that drives them."""

    log_keep_bytes: int = 8 * MIB
    """A log is truncated when it has more bytes than this and everybody has them."""
    log_bytes_max: int = 64 * MIB
    """... and then even if a follower is behind: it will need a snapshot."""
    hold_messages_ms: int = 20_000
    hold_messages_max: int = 1_000
    inflight_bytes_per_range_max: int = 16 * MIB
    inflight_bytes_per_store_max: int = 128 * MIB
    snapshot_chunk_bytes: int = 1 * MIB
    snapshot_bytes_per_s: int = 64 * MIB
    snapshots_concurrent_max: int = 2
    recent_writes_max: int = 65_536
    timestamp_cache_entries_max: int = 65_536
    newest_versions_max: int = 16_384
    """So many versions, of 1 KiB at most, a store remembers so that it need not search for them."""
    replication_factor: int = 3
    gc_ttl_s: float = 3_600.0
    """How long old versions stay readable, and a write may be sent again; 0: for ever. The same on
    all nodes."""
    locks_max: int = 65_536
    """Locks of a range that its leaseholder keeps in memory; of more it reads the state."""
    transaction_expiry_ms: int = 2_500
    """A transaction that shows no sign of life for so long may be aborted by whoever it blocks."""
    lock_wait_ms: int = 2_000
    """A request waits for locks no longer before its client is told who has them, and sends it
    again; it keeps its place."""


class LimitsConfig(msgspec.Struct, frozen=True):
    """Published limits on requests; docs/operations.md lists them."""

    key_bytes_max: int = 8 * KIB
    value_bytes_max: int = 1 * MIB
    batch_operations_max: int = 10_000
    batch_bytes_max: int = 8 * MIB
    """Of keys and values in one batch; and of the values that one batch reads in one range."""
    scan_bytes_max: int = 1 * MIB
    """The most that one scan part returns; a larger scan goes on by itself."""
    scan_keys_max: int = 10_000
    scan_passed_max: int = 20_000
    """A scan part ends after passing over so many keys that are not live, perhaps without a row."""
    transaction_keys_max: int = 10_000
    """Keys that one transaction may write, and spans that one of its parts may have read."""
    transaction_bytes_max: int = 16 * MIB
    """Of keys and values that one transaction writes."""
    transaction_s_max: int = 300
    """How long a transaction may last, from its first attempt on, whatever its deadline."""


class ClientConfig(msgspec.Struct, frozen=True):
    """The client library, and stores as clients of each other."""

    deadline_s: float = 10.0
    backoff_ms_min: int = 5
    backoff_ms_max: int = 100
    attempt_timeout_ms: int = 3_000
    """An attempt without a reply is sent again (to the same or another node) after this long."""
    scan_prefetch: bool = True
    issued_at_margin_ms: int = 250
    """Requests are dated this much below the estimated clock of the cluster (rule S12)."""
    transaction_buffer_bytes_max: int = 1 * MIB
    """A transaction keeps so much of what it writes to itself, and an eighth of `batch_bytes_max`
    at most; the rest is laid before it ends."""
    transaction_call_keys_max: int = 1_000
    """Keys and spans that a transaction reads, lays or refreshes with one call; so many writes it
    keeps to itself. Fewer are laid if its first key, which each of them names, is long."""
    transaction_spans_max: int = 1_000
    """Keys and spans that a transaction has read and remembers exactly; of more, it remembers
    wider spans, which more writes of others disturb."""
    transaction_heartbeat_ms: int = 500
    """How often a transaction that holds locks shows that it lives."""
    transaction_contended_ms: int = 1_000
    """For how long others lock a key at once over which a transaction had to run again."""
    protect_after_s: float = 5.0
    """A scan or snapshot that lasts longer has its time protected from garbage collection ..."""
    protection_s: float = 60.0
    """... for so long, renewed while it lasts: a client that vanishes stops no garbage collection
    for longer."""


class Config(msgspec.Struct, frozen=True):
    """All of it."""

    raft: RaftConfig = RaftConfig()
    liveness: LivenessConfig = LivenessConfig()
    storage: StorageConfig = StorageConfig()
    net: NetConfig = NetConfig()
    ranges: RangesConfig = RangesConfig()
    limits: LimitsConfig = LimitsConfig()
    client: ClientConfig = ClientConfig()


LOG_KEEP_BYTES_MIN = 256
"""Below this, a log would be cut about as often as it is written to."""
CACHE_ENTRIES_MIN = 2
"""The timestamp cache has two generations, and each needs room."""

_MAY_BE_ZERO = frozenset(
    {
        "clock_offset_ms_max",
        "free_reserve_bytes",
        "gc_ttl_s",
        "issued_at_margin_ms",
    }
)
_FRAME_BYTES_LIMIT = (1 << 32) - 1
"""A frame's header has four bytes for its length."""


def check(config: Config) -> None:
    """Raise ConfigError if the settings cannot work, alone or together (L5 among others)."""
    for part in msgspec.structs.fields(config):
        _check_numbers(part.name, getattr(config, part.name))
    if config.net.frame_bytes_max > _FRAME_BYTES_LIMIT:
        raise errors.ConfigError(
            f"frame_bytes_max is {config.net.frame_bytes_max}, but must be at most "
            f"{_FRAME_BYTES_LIMIT}"
        )
    live = config.liveness
    least = 2 * live.clock_offset_ms_max + 2 * live.heartbeat_ms
    if live.support_ms < least:
        raise errors.ConfigError(
            f"support_ms is {live.support_ms}, but must be at least 2 x clock_offset_ms_max + "
            f"2 x heartbeat_ms = {least}: otherwise no request could ever be served"
        )
    if config.limits.batch_bytes_max * 2 > config.net.frame_bytes_max:
        raise errors.ConfigError(
            f"frame_bytes_max is {config.net.frame_bytes_max}, but must be at least twice "
            f"batch_bytes_max ({config.limits.batch_bytes_max})"
        )
    _check_least("ranges", "log_keep_bytes", config.ranges.log_keep_bytes, LOG_KEEP_BYTES_MIN)
    if config.ranges.gc_ttl_s:
        # Below, what a client has just sent could be too old already.
        least_s = (2 * live.clock_offset_ms_max + config.client.issued_at_margin_ms) / 1_000
        _check_least("ranges", "gc_ttl_s", config.ranges.gc_ttl_s, least_s)
    entries = config.ranges.timestamp_cache_entries_max
    _check_least("ranges", "timestamp_cache_entries_max", entries, CACHE_ENTRIES_MIN)
    _check_least("ranges", "newest_versions_max", config.ranges.newest_versions_max, 1)
    beat_ms, expiry_ms = config.client.transaction_heartbeat_ms, config.ranges.transaction_expiry_ms
    if expiry_ms < 4 * beat_ms:
        raise errors.ConfigError(
            f"transaction_expiry_ms is {expiry_ms}, but must be at least 4 x "
            f"transaction_heartbeat_ms = {4 * beat_ms}: the first sign of life may take two"
        )
    if config.limits.value_bytes_max + config.limits.key_bytes_max > config.limits.batch_bytes_max:
        raise errors.ConfigError("batch_bytes_max must hold at least one largest key and value")


def _check_least(part: str, name: str, value: float, least: float) -> None:
    if value < least:
        raise errors.ConfigError(f"[{part}] {name} is {value}, but must be at least {least}")


def _check_numbers(part: str, settings: msgspec.Struct) -> None:
    for setting in msgspec.structs.fields(settings):
        if setting.type not in (int, float):
            continue
        value = getattr(settings, setting.name)
        if not math.isfinite(value):
            raise errors.ConfigError(f"[{part}] {setting.name} is {value}, but must be a number")
        if value < 0 or (value == 0 and setting.name not in _MAY_BE_ZERO):
            least = "at least" if setting.name in _MAY_BE_ZERO else "above"
            raise errors.ConfigError(f"[{part}] {setting.name} is {value}, but must be {least} 0")
