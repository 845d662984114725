"""The bytes on disk, and what a start makes of them."""

from multiraft.ids import Epoch, NodeId, Timestamp
from multiraft.liveness import records
from multiraft.liveness.records import Asked, Granted
from multiraft.storage.memory import MemoryEngine


def test_a_fresh_store_finds_nothing() -> None:
    assert records.load(MemoryEngine()) == records.NOTHING
    assert records.NOTHING.clock_floor == 0


def test_what_is_put_is_found_again_in_the_order_of_nodes() -> None:
    engine = MemoryEngine()
    asked = Asked(Timestamp(1 << 63), ((NodeId(1), Epoch(4)), (NodeId(300), Epoch(1))))
    grants = (
        (NodeId(2), Granted(Epoch(1), Timestamp(5), Timestamp(0))),
        (NodeId(300), Granted(Epoch(7), Timestamp(0), Timestamp(9))),
    )
    batch = engine.new_batch()
    records.put_asked(batch, engine.data, asked)
    for node, granted in reversed(grants):
        records.put_granted(batch, engine.data, node, granted)
    engine.write(batch)
    assert records.load(engine) == records.Stored(asked, grants)


def test_the_bytes_on_disk_stay_the_same() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    records.put_asked(batch, engine.data, Asked(Timestamp(300), ((NodeId(1), Epoch(4)),)))
    records.put_granted(batch, engine.data, NodeId(2), Granted(Epoch(1), Timestamp(5)))
    engine.write(batch)
    assert dict(engine.scan(b"", b"\xff", engine.data)) == {
        b"\x00liveness/asked": bytes.fromhex("92 cd012c 91 92 01 04"),
        b"\x00liveness/granted/\x00\x00\x00\x00\x00\x00\x00\x02": bytes.fromhex("93 01 05 00"),
    }
