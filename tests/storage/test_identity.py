"""Who a store is (safety rule A7)."""

import pytest

from multiraft import errors
from multiraft.ids import NodeId
from multiraft.storage import identity
from multiraft.storage.identity import Identity
from multiraft.storage.memory import MemoryEngine
from tests.support import engines

ALICE = Identity("cluster", NodeId(7))


def create(engine: MemoryEngine, who: Identity) -> None:
    batch = engine.new_batch()
    identity.create(engine, batch, who)
    engine.write(batch)


def test_new_store_has_no_identity() -> None:
    assert identity.load(MemoryEngine()) is None


def test_identity_survives_a_restart() -> None:
    engine = MemoryEngine()
    create(engine, ALICE)
    engines.sync(engine)
    engine.crash(keep=0)
    assert identity.load(engine.reopen()) == ALICE


def test_identity_is_lost_with_the_rest_when_it_was_not_synced() -> None:
    engine = MemoryEngine()
    create(engine, ALICE)
    engine.crash(keep=0)
    assert identity.load(engine.reopen()) is None


def test_identity_never_changes() -> None:
    engine = MemoryEngine()
    create(engine, ALICE)
    with pytest.raises(AssertionError, match="never changes"):
        create(engine, Identity("cluster", NodeId(8)))


def test_bytes_are_the_documented_ones() -> None:
    engine = MemoryEngine()
    create(engine, ALICE)
    assert engine.get(b"\x00identity", engine.data) == b"\x92\xa7cluster\x07"


def test_unreadable_identity_is_corruption() -> None:
    engine = MemoryEngine()
    engines.put(engine, identity.KEY, b"\xc1", engine.data)
    with pytest.raises(errors.CorruptionError, match="identity is unreadable"):
        identity.load(engine)
