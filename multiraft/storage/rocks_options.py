"""How RocksDB is set up, and why; the names of its two column families.

Every option that matters for safety is set by name, also where it is the default today.

Format
    Some options can be set through a file in RocksDB's own OPTIONS format only, since the binding
    has no function for them. `_OPTIONS_FILE` names just these; what it leaves out keeps its
    default.
Source
    docs/decisions/0002-wal-recovery.md for recovery; the comments give what was measured.
"""

from pathlib import Path

import rocksdict

from multiraft.config import MIB, StorageConfig

RAFT = "raft"
DATA = "data"

_OPTIONS_FILE = b"""\
[Version]
  rocksdb_version=9.8.4
  options_file_version=1.1
[DBOptions]
  track_and_verify_wals_in_manifest=true
[CFOptions "default"]
[TableOptions/BlockBasedTable "default"]
"""
# Ten bits give 1 % false positives, the usual choice.
_BLOOM_BITS = 10


def database(config: StorageConfig, options_directory: Path, *, create: bool) -> rocksdict.Options:
    """Return the options of the whole database."""
    _write_options_file(options_directory / "OPTIONS-000001")
    options, _ = rocksdict.Options.load_latest(str(options_directory))
    # Only while the directory is being made: a database that has gone must not come back empty.
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    # A recycled log file would have old records after the torn tail of new ones.
    options.set_recycle_log_file_num(0)
    # Without a cap an idle family with one unflushed key keeps logs alive: 126 MiB were seen with
    # buffers of 4 MiB.
    options.set_max_total_wal_size(config.wal_bytes_max)
    # RocksDB's own diary: by default 1,000 files of any size, and statistics every ten minutes.
    options.set_keep_log_file_num(3)
    options.set_max_log_file_size(1 * MIB)
    options.set_stats_dump_period_sec(0)
    return options


def _write_options_file(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    # Not in place when it is right already: a disk that is full must not stop a restart.
    if not path.exists() or path.read_bytes() != _OPTIONS_FILE:
        path.write_bytes(_OPTIONS_FILE)


def families(config: StorageConfig) -> dict[str, rocksdict.Options]:
    """Return the options of each column family."""
    cache = rocksdict.Cache(config.block_cache_bytes)
    raft = _family(cache, config.raft_write_buffer_bytes)
    # Entries live for seconds, and the buffer has room for several times what a log keeps of them:
    # most are truncated before they would be flushed, and compressing the others is waste.
    raft.set_compression_type(rocksdict.DBCompressionType.none())
    data = _family(cache, config.data_write_buffer_bytes)
    data.set_compression_type(rocksdict.DBCompressionType.lz4())
    return {RAFT: raft, DATA: data}


def _family(cache: rocksdict.Cache, write_buffer_bytes: int) -> rocksdict.Options:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(_BLOOM_BITS, False)
    table.set_checksum_type(rocksdict.ChecksumType.xxh3())
    options = rocksdict.Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(write_buffer_bytes)
    return options
