from multiraft.ids import Timestamp
from multiraft.mvcc.reader import EngineReader, ViewReader
from multiraft.mvcc.versions import VALUE, Version
from multiraft.storage import layout
from multiraft.storage.engine import Engine
from tests.support.version_model import Model, write_id

FROM, TO = layout.span(layout.VERSION, b"", b"\xff")
A, B = layout.version_key(b"a", Timestamp(1)), layout.version_key(b"b", Timestamp(1))


def two_keys(value: bytes) -> Model:
    version = Version(Timestamp(1), VALUE, write_id(1), b"", value)
    return Model({b"a": [version], b"b": [version]})


def test_both_readers_give_keys_in_order(engine: Engine) -> None:
    two_keys(b"v").store(engine)
    stored = b"\x01" + write_id(1) + b"v"
    view = engine.view()
    for reader in (EngineReader(engine), ViewReader(view, engine.data)):
        assert reader.first(FROM, TO) == (A, stored)
        assert reader.first(A + b"\x00", TO) == (B, stored)
        assert reader.first(FROM, A) is None
        assert list(reader.scan(FROM, TO)) == [(A, stored), (B, stored)]
        assert list(reader.scan(FROM, TO, reverse=True)) == [(B, stored), (A, stored)]
        assert list(reader.scan(FROM, B)) == [(A, stored)]
    view.close()


def test_engine_is_read_as_it_is_and_view_as_it_was(engine: Engine) -> None:
    two_keys(b"old").store(engine)
    view = engine.view()
    was, now = ViewReader(view, engine.data), EngineReader(engine)
    two_keys(b"new").store(engine)
    assert was.first(FROM, TO) == (A, b"\x01" + write_id(1) + b"old")
    assert now.first(FROM, TO) == (A, b"\x01" + write_id(1) + b"new")
    assert [stored[-3:] for _, stored in was.scan(FROM, TO)] == [b"old", b"old"]
    assert [stored[-3:] for _, stored in now.scan(FROM, TO)] == [b"new", b"new"]
    view.close()
