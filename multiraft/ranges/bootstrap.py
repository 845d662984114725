"""The birth of a cluster: what every first store holds before any of them has run.

Purpose
    Write the same initial state into the empty directories of the first nodes: identity, addresses
    and two ranges, the first one with meta and system, the second one with all user keys. Nothing
    is elected or agreed upon; the ranges begin like the right half of a split, after INITIAL_INDEX.
Invariants
    - A directory that holds anything is never written to (rule A7): an identity is made with its
      directory.
"""

import msgspec

from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, keys
from multiraft.model.descriptor import RangeDescriptor, initial_descriptor
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.writes import WriteSet
from multiraft.net.transport import NodeAddress
from multiraft.raft.ready import HardState
from multiraft.ranges import state
from multiraft.storage import identity, layout, raft_log
from multiraft.storage.engine import Batch, Engine
from multiraft.storage.identity import Identity

FIRST_RANGE_ID = RangeId(1)
USER_RANGE_ID = RangeId(2)
BOOTSTRAP_WRITE_ID = bytes(16)

NODES_KEY = layout.STORE + b"nodes"
_unpack_nodes = msgspec.msgpack.Decoder(tuple[NodeAddress, ...]).decode


def write(
    engine: Engine,
    me: Identity,
    nodes: tuple[NodeAddress, ...],
    timestamp: Timestamp,
    voters: tuple[NodeId, ...] = (),
) -> None:
    """Write the initial state of node `me` of a new cluster of `nodes`.

    The ranges are on `voters`; none: on all nodes. The caller makes it durable. Every node must be
    given the same `nodes`, `timestamp` and `voters`.
    """
    batch = engine.new_batch()
    identity.create(engine, batch, me)
    write_nodes(batch, engine, nodes)
    voters = voters or tuple(node.node_id for node in nodes)
    if me.node_id in voters:
        _write_ranges(batch, engine, nodes, timestamp, voters)
    engine.write(batch)


def _write_ranges(
    batch: Batch,
    engine: Engine,
    nodes: tuple[NodeAddress, ...],
    timestamp: Timestamp,
    voters: tuple[NodeId, ...],
) -> None:
    first = initial_descriptor(FIRST_RANGE_ID, keys.MIN, keys.FIRST_RANGE_END, voters)
    users = initial_descriptor(USER_RANGE_ID, keys.FIRST_RANGE_END, keys.END, voters)
    stats = _write_first_data(batch, engine, (first, users), nodes, timestamp)
    _write_range(batch, engine, first, stats, timestamp)
    _write_range(batch, engine, users, RangeStats(), timestamp)


def _write_first_data(
    batch: Batch,
    engine: Engine,
    descriptors: tuple[RangeDescriptor, ...],
    nodes: tuple[NodeAddress, ...],
    timestamp: Timestamp,
) -> RangeStats:
    """Put addressing records, counters and the node registry; return what they add up to."""
    writes = WriteSet(EngineReader(engine), timestamp, BOOTSTRAP_WRITE_ID)
    for descriptor in descriptors:
        writes.put(keys.meta_key(descriptor.start), encoding.pack(descriptor))
    writes.put(keys.RANGE_ID_COUNTER, encoding.pack_counter(USER_RANGE_ID))
    writes.put(keys.NODE_ID_COUNTER, encoding.pack_counter(max(n.node_id for n in nodes)))
    for node in nodes:
        writes.put(keys.node_key(node.node_id), encoding.pack(node))
    effects = writes.effects()
    for position in range(0, len(effects.puts), 2):
        batch.put(effects.puts[position], effects.puts[position + 1], engine.data)
    return effects.stats


def _write_range(
    batch: Batch,
    engine: Engine,
    descriptor: RangeDescriptor,
    stats: RangeStats,
    timestamp: Timestamp,
) -> None:
    applied = msgspec.structs.replace(
        state.initial_applied(stats, timestamp), meta_generation=descriptor.generation
    )
    state.write_descriptor(batch, engine, descriptor)
    state.write_applied(batch, engine, state.applied_key(descriptor.range_id), applied)
    log = raft_log.RangeLog(engine, descriptor.range_id)
    log.reset(batch, state.INITIAL_INDEX, state.INITIAL_TERM)
    log.set_hard_state(batch, HardState(term=state.INITIAL_TERM, commit_index=state.INITIAL_INDEX))


def write_nodes(batch: Batch, engine: Engine, nodes: tuple[NodeAddress, ...]) -> None:
    """Remember where the nodes of the cluster listen and are, for the next start."""
    batch.put(NODES_KEY, encoding.pack(nodes), engine.data)


def read_nodes(engine: Engine) -> tuple[NodeAddress, ...]:
    """Return what `write_nodes` wrote last; empty if it never did."""
    packed = engine.get(NODES_KEY, engine.data)
    return () if packed is None else _unpack_nodes(packed)
