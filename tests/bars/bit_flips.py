"""Single flipped bits in every file of a node, and what its store says about each.

Purpose
    A node's directory is made of what a node of the scripted load wrote: tables of several lives,
    one live log or two, and all small files. For each flip a copy is damaged, opened, and all that
    is in it is read: forwards, and key by key, which asks filters too.
Invariants, for each flip
    - The store refuses, when it is opened or when the damage is read, with one of our own errors;
      or it holds exactly what it held before. So no answer is wrong, and no log is shorter.
"""

import random
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from multiraft import errors
from multiraft.storage import directory as data_directory
from multiraft.storage.engine import Family
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.rocks import RocksEngine
from tests.bars import scripted_load
from tests.bars.bar import Bar, Case, Tell
from tests.bars.scripted_load import ScriptedLoad
from tests.support import engines
from tests.support.engines import SMALL

FILLER = b"\xf0filler"
"""Above every range's keys."""
FILLER_BYTES = 60_000
"""With it one family fills its buffer, so a new log begins; the other keeps the older one alive."""

Operations = list[tuple[bool, bytes, bytes | None, bytes | None]]
"""Of a batch: whether in `raft`, key, value or None to delete, end of a range to delete."""
Row = tuple[bytes, bytes]


class Image(NamedTuple):
    """A node's directory that is not open, and what is in it."""

    directory: Path
    rows: tuple[list[Row], list[Row]]


def written(seed: int) -> list[Operations]:
    """Return the batches that node 1 of a scripted load writes, what it starts with included."""
    found: list[Operations] = []

    async def main(load: ScriptedLoad) -> None:
        engine = load.cluster.members[1].engine
        found.append(_everything(engine))
        inner_write = engine.write

        def write(batch: Any) -> None:  # noqa: ANN401
            found.append([(f is engine.raft, *rest) for f, *rest in batch.operations])
            inner_write(batch)

        engine.write = write  # type: ignore[method-assign]
        load.begin()
        await load.over.wait()
        await load.end()

    scripted_load.run(seed, main)
    return found


def _everything(engine: MemoryEngine) -> Operations:
    return [
        (family is engine.raft, key, value, None)
        for family in (engine.raft, engine.data)
        for key, value in engines.contents(engine, family)
    ]


def images(scratch: Path, seed: int) -> list[Image]:
    """Make a directory as SIGKILL leaves it, with one live log and with two, and as a stop does.

    It has tables of an earlier life; too few of them for RocksDB to merge any meanwhile.
    """
    batches = written(seed)
    third = len(batches) // 3
    directory = scratch / "store"
    engine = RocksEngine.open(directory, SMALL)
    _write_all(engine, batches[:third])
    engine.close()
    engine = RocksEngine.open(directory, SMALL)
    _write_all(engine, batches[third : 2 * third])
    one_log = engines.crash_image(directory, scratch / "one-log")
    engines.put(engine, FILLER, bytes(FILLER_BYTES), engine.raft)
    _write_all(engine, batches[2 * third :])
    two_logs = engines.crash_image(directory, scratch / "two-logs")
    engine.close()
    return [_image(each, scratch) for each in (one_log, two_logs, directory)]


def _image(directory: Path, scratch: Path) -> Image:
    return Image(directory, _read(engines.crash_image(directory, scratch / "intact")))


def _write_all(engine: RocksEngine, batches: list[Operations]) -> None:
    for batch in batches:
        _write(engine, batch)
    engines.sync(engine)


def _write(engine: RocksEngine, operations: Operations) -> None:
    batch = engine.new_batch()
    for in_raft, key, value, end in operations:
        family: Family = engine.raft if in_raft else engine.data
        if end is not None:
            batch.delete_range(key, end, family)
        elif value is None:
            batch.delete(key, family)
        else:
            batch.put(key, value, family)
    engine.write(batch)


def _read(directory: Path) -> tuple[list[Row], list[Row]]:
    """Read everything in a directory, in both ways."""
    engine = RocksEngine.open(directory, SMALL)
    try:
        raft, data = (engines.contents(engine, family) for family in (engine.raft, engine.data))
        for family, rows in ((engine.raft, raft), (engine.data, data)):
            for key, value in rows:
                assert engine.get(key, family) == value, f"get and scan differ at {key!r}"
        return raft, data
    finally:
        engine.close()


def flip(image: Image, path: Path, bit: int, copy: Path) -> Case:
    """Flip one bit of a file in a copy of the directory, and read that."""
    kind = kind_of(path)
    engines.crash_image(image.directory, copy)
    engines.flip(copy / path, bit // 8, 1 << bit % 8)
    try:
        found = _read(copy)
    except errors.MultiraftError as error:
        named = ", naming the file" if path.name in error.message else ""
        return Case(kind, "refused" + named)
    except Exception as error:
        return Case(kind, "FAILED", f"bit {bit} of {path}: {type(error).__name__}: {error}")
    if found != image.rows:
        short = " and ".join(
            f"{len(there)} instead of {len(rows)}"
            for there, rows in zip(found, image.rows, strict=True)
        )
        return Case(kind, "FAILED", f"bit {bit} of {path}: other rows, {short}")
    return Case(kind, "no harm")


def kind_of(path: Path) -> str:
    """Return what sort of file this is."""
    if path.suffix in (".sst", ".log"):
        return {".sst": "tables", ".log": "logs"}[path.suffix]
    if path.parent.name == data_directory.OPTIONS:
        return "our OPTIONS"
    return re.split("[-.]", path.name)[0]


def files(image: Image) -> list[Path]:
    """Return the files that have a bit to flip, relative to the directory."""
    found = (path for path in image.directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(image.directory) for path in found if path.stat().st_size)


def run(count: int, seed: int, tell: Tell) -> None:
    """Flip so many bits; every file gets as many."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=engines.memory_directory()) as name:
        scratch = Path(name)
        places = [(each, path) for each in images(scratch, seed) for path in files(each)]
        for number in range(count):
            image, path = places[number % len(places)]
            bit = dice.randrange(8 * (image.directory / path).stat().st_size)
            tell(flip(image, path, bit, scratch / "copy"))


BAR = Bar("bit-flips", "Single flipped bits in every file of a node.", 10_000, run)
