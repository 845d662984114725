"""An obviously correct model of versions: a dict of lists. And histories to compare it on."""

from collections.abc import Iterator

import hypothesis.strategies as st

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.mvcc import versions
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.storage import layout
from multiraft.storage.engine import Engine

# Prefixes of each other, zero bytes, bytes of the escape, the empty key.
_ZEROS = [b"", b"\x00", b"\x00\x00", b"\x00\x01", b"\x00\xff", b"a\x00", b"a\x00b"]
_OTHERS = [b"a", b"a\x01", b"a\xff", b"ab", b"b", b"\x10plain", b"\xfe\xff\xff"]
some_keys = st.sampled_from(_ZEROS + _OTHERS)
some_bounds = st.one_of(some_keys, st.sampled_from([keys.MIN, keys.END, b"a\x00\xff", b"aa"]))
some_values = st.sampled_from([b"", b"v", b"value", b"\x00\x01" * 4, b"x" * 40])
some_results = st.sampled_from([b"", b"", b"r", b"\x83\x00\x01result"])


def write_id(number: int) -> bytes:
    """Return the ID of the write with that number."""
    return number.to_bytes(versions.ID_BYTES, "big")


class Model:
    """Versions by key, oldest first."""

    def __init__(self, chains: dict[bytes, list[Version]] | None = None) -> None:
        self.chains: dict[bytes, list[Version]] = chains or {}

    def add(self, key: bytes, version: Version) -> None:
        self.chains.setdefault(key, []).append(version)

    def all(self) -> Iterator[tuple[bytes, Version]]:
        for key, chain in sorted(self.chains.items()):
            for version in chain:
                yield key, version

    def newest(self, key: bytes) -> Version | None:
        return self.get(key, Timestamp(1 << 63))

    def get(self, key: bytes, timestamp: int) -> Version | None:
        seen = None
        for version in self.chains.get(key, []):
            if version.timestamp <= timestamp and version.kind != OUTCOME:
                seen = version
        return seen

    def live(self, start: bytes, end: bytes, timestamp: int) -> list[tuple[bytes, bytes]]:
        rows = []
        for key in sorted(self.chains):
            version = self.get(key, timestamp)
            if start <= key < end and version is not None and version.kind == VALUE:
                rows.append((key, version.value))
        return rows

    def store(self, engine: Engine) -> None:
        """Make the data family of `engine` hold this and nothing else."""
        batch = engine.new_batch()
        batch.delete_range(b"", b"\xff" * 8, engine.data)
        for key, version in self.all():
            physical = layout.version_key(key, version.timestamp)
            batch.put(physical, versions.encode(version), engine.data)
        engine.write(batch)


@st.composite
def histories(draw: st.DrawFn, max_size: int = 40) -> Model:
    """A model with some versions at the timestamps 2, 4, 6...; one per timestamp."""
    model = Model()
    kinds = st.sampled_from([VALUE, VALUE, VALUE, TOMBSTONE, OUTCOME])
    events = draw(
        st.lists(st.tuples(some_keys, kinds, some_values, some_results), max_size=max_size)
    )
    for number, (key, kind, value, result) in enumerate(events, start=1):
        version = Version(
            Timestamp(2 * number), kind, write_id(number), result, value if kind == VALUE else b""
        )
        model.add(key, version)
    return model
