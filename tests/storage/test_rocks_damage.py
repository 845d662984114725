"""Torn tails, flipped bits and missing files: an engine opens with all that was synced, or refuses.

The images are copies of an open engine's directory, which is what SIGKILL leaves.
"""

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from multiraft import errors
from multiraft.storage.rocks import RocksEngine
from tests.support import engines
from tests.support.engines import SMALL, flip

ROWS = 40


def key(number: int) -> bytes:
    return b"%05d" % number


def write(engine: RocksEngine, number: int) -> None:
    """Write one batch over both families, as a turn does."""
    batch = engine.new_batch()
    batch.put(key(number), b"entry %d" % number * 3, engine.raft)
    batch.put(key(number), b"state %d" % number, engine.data)
    engine.write(batch)


def found(directory: Path) -> list[int]:
    """Return the numbers of the batches found at `directory`, having checked both families."""
    engine = RocksEngine.open(directory, SMALL)
    try:
        log = engines.contents(engine, engine.raft)
        state = engines.contents(engine, engine.data)
        numbers = [int(row[0]) for row in log]
        assert log == [(key(n), b"entry %d" % n * 3) for n in numbers]
        assert state == [(key(n), b"state %d" % n) for n in numbers], "a batch is atomic"
        return numbers
    finally:
        engine.close()


def log_files(directory: Path) -> list[Path]:
    return sorted((directory / "rocks").glob("*.log"))


@pytest.fixture(scope="module")
def one_log(module_scratch: Path) -> tuple[Path, list[int]]:
    """Return an image whose ROWS batches are synced and in one log, and the size after each."""
    directory = module_scratch / "one" / "store"
    engine = RocksEngine.open(directory, SMALL)
    sizes = []
    for number in range(ROWS):
        write(engine, number)
        sizes.append(log_files(directory)[-1].stat().st_size)
    engines.sync(engine)
    image = engines.crash_image(directory, directory.with_name("image"))
    engine.close()
    return image, sizes


@pytest.fixture(scope="module")
def many_logs(module_scratch: Path) -> tuple[Path, int]:
    """Return an image with several logs, all synced, and how many batches it holds."""
    directory = module_scratch / "many" / "store"
    engine = RocksEngine.open(directory, SMALL)
    number = 100
    for i in range(number):
        write(engine, i)
        if i % 10 == 0:
            # Only one family fills its buffer, so the other keeps the older logs alive.
            engines.put(engine, b"filler", bytes(30_000), engine.raft)
    assert len(log_files(directory)) >= 3
    batch = engine.new_batch()
    batch.delete(b"filler", engine.raft)
    engine.write(batch)
    engines.sync(engine)
    image = engines.crash_image(directory, directory.with_name("image"))
    engine.close()
    return image, number


def copy(image: Path, scratch: Path) -> Path:
    return engines.crash_image(image, scratch / "copy")


def refuses(directory: Path) -> bool:
    """Whether the engine refuses to open; if not, it has everything, and that was checked."""
    try:
        assert found(directory) == list(range(ROWS))
    except errors.CorruptionError:
        return True
    return False


def test_an_image_is_of_one_moment(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RocksDB flushes by itself while its files are copied one by one."""
    directory, copied = scratch / "store", shutil.copytree
    directory.mkdir()
    growing, going = directory / "growing", directory / "going"
    growing.write_bytes(b"")
    going.write_bytes(b"here")

    def copytree(source: Path, target: Path) -> None:
        copied(source, target)
        growing.write_bytes(b"whole")
        going.unlink(missing_ok=True)

    monkeypatch.setattr(shutil, "copytree", copytree)
    image = engines.crash_image(directory, scratch / "image")
    assert {path.name: path.read_bytes() for path in image.iterdir()} == {"growing": b"whole"}


def test_image_of_a_killed_process_has_everything(one_log: tuple[Path, list[int]]) -> None:
    image, _ = one_log
    assert found(engines.crash_image(image, image.with_name("whole"))) == list(range(ROWS))


def test_unsynced_tail_may_be_torn_at_any_byte(
    one_log: tuple[Path, list[int]], scratch: Path
) -> None:
    """The last record is not synced, so the watermark stands before it."""
    directory = scratch / "store"
    engine = RocksEngine.open(directory, SMALL)
    for number in range(3):
        write(engine, number)
    engines.sync(engine)
    whole = log_files(directory)[-1].stat().st_size
    write(engine, 3)
    longer = log_files(directory)[-1].stat().st_size
    image = engines.crash_image(directory, scratch / "image")
    engine.close()
    assert whole < longer
    for length in range(whole, longer):
        torn = copy(image, scratch)
        with log_files(torn)[-1].open("r+b") as file:
            file.truncate(length)
        assert found(torn) == [0, 1, 2]


def test_zeros_over_the_unsynced_tail_are_a_torn_tail(scratch: Path) -> None:
    """What a file system may show of blocks that were allocated but not written."""
    directory = scratch / "store"
    engine = RocksEngine.open(directory, SMALL)
    write(engine, 0)
    engines.sync(engine)
    whole = log_files(directory)[-1].stat().st_size
    for number in range(1, 6):
        write(engine, number)
    image = engines.crash_image(directory, scratch / "image")
    engine.close()
    path = log_files(image)[-1]
    length = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole + 10)
        file.truncate(length)
    assert found(image) == [0]


def test_synced_tail_that_is_cut_is_damage(one_log: tuple[Path, list[int]], scratch: Path) -> None:
    image, sizes = one_log
    for length in (0, 1, 7, sizes[0], sizes[20] - 1, sizes[20], sizes[-2], sizes[-1] - 1):
        cut = copy(image, scratch)
        with log_files(cut)[-1].open("r+b") as file:
            file.truncate(length)
        with pytest.raises(errors.CorruptionError, match=r"was synced|truncated"):
            found(cut)


def test_flipped_bit_in_a_synced_log_is_always_noticed(
    one_log: tuple[Path, list[int]], scratch: Path
) -> None:
    """Samples every record: its checksum, length, type, and payload."""
    image, sizes = one_log
    chooser = random.Random(1)
    starts = [0, *sizes[:-1]]
    offsets = [start + place for start in starts[::8] for place in range(8)]
    offsets += [chooser.randrange(low, high) for low, high in zip(starts, sizes, strict=True)]
    missed = []
    for offset in offsets:
        damaged = copy(image, scratch)
        flip(log_files(damaged)[-1], offset, 1 << chooser.randrange(8))
        if not refuses(damaged):
            missed.append(offset)
    assert missed == []


def test_refusal_names_the_log_and_the_byte_at_which_its_damage_begins(
    one_log: tuple[Path, list[int]], scratch: Path
) -> None:
    image, sizes = one_log
    damaged = copy(image, scratch)
    path = log_files(damaged)[-1]
    flip(path, sizes[10] + 20, 1)
    told = (
        rf"{path} is damaged from byte {sizes[10]} on \(checksum mismatch\): it ends at write \d+"
    )
    with pytest.raises(errors.CorruptionError, match=told):
        found(damaged)


@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
def test_type_that_would_hang_rocksdb_is_noticed_in_what_was_synced(
    one_log: tuple[Path, list[int]], scratch: Path, kind: int
) -> None:
    image, sizes = one_log
    damaged = copy(image, scratch)
    path = log_files(damaged)[-1]
    flip(path, sizes[10] + 6, path.read_bytes()[sizes[10] + 6] ^ kind)
    assert refuses(damaged)


@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
def test_type_that_would_hang_rocksdb_does_no_harm_behind_the_end(
    one_log: tuple[Path, list[int]], scratch: Path, kind: int
) -> None:
    image, _ = one_log
    longer = copy(image, scratch)
    with log_files(longer)[-1].open("ab") as file:
        file.write(b"crc!\x14\x00" + bytes([kind]) + bytes(20))
    assert found(longer) == list(range(ROWS))


def test_garbage_after_the_end_of_the_log_does_no_harm(
    one_log: tuple[Path, list[int]], scratch: Path
) -> None:
    image, _ = one_log
    for garbage in (bytes(500), random.Random(2).randbytes(500)):
        longer = copy(image, scratch)
        with log_files(longer)[-1].open("ab") as file:
            file.write(garbage)
        assert found(longer) == list(range(ROWS))


def test_refused_store_is_refused_again(one_log: tuple[Path, list[int]], scratch: Path) -> None:
    """RocksDB tidies up while it opens; that must not make the damage look like health."""
    image, sizes = one_log
    damaged = copy(image, scratch)
    flip(log_files(damaged)[-1], sizes[10] + 20, 1)
    for _ in range(3):
        assert refuses(damaged)


def test_damage_to_any_of_several_logs_is_noticed(
    many_logs: tuple[Path, int], scratch: Path
) -> None:
    image, count = many_logs
    assert found(copy(image, scratch)) == list(range(count))
    missed = []
    for position, name in enumerate(path.name for path in log_files(image)):
        for harm in ("missing", "short", "flipped"):
            damaged = copy(image, scratch)
            path = damaged / "rocks" / name
            size = path.stat().st_size
            if harm == "missing":
                path.unlink()
            elif harm == "short":
                with path.open("r+b") as file:
                    file.truncate(size // 2)
            else:
                flip(path, size // 2, 1)
            try:
                found(damaged)
                missed.append((position, harm))
            except errors.CorruptionError:
                pass
    assert missed == []


@pytest.fixture(scope="module")
def closed(module_scratch: Path) -> Path:
    """Return the directory of an engine that was closed: everything is in tables."""
    directory = module_scratch / "closed" / "store"
    engine = RocksEngine.open(directory, SMALL)
    for number in range(ROWS):
        write(engine, number)
    engine.close()
    return directory


def test_flipped_bits_in_tables_never_give_a_wrong_answer(closed: Path, scratch: Path) -> None:
    chooser = random.Random(3)
    noticed = 0
    for table in sorted((closed / "rocks").glob("*.sst")):
        size = table.stat().st_size
        for offset in sorted(chooser.sample(range(size), 20)):
            damaged = copy(closed, scratch)
            flip(damaged / "rocks" / table.name, offset, 1 << chooser.randrange(8))
            noticed += refuses(damaged)
    assert noticed > 20


@pytest.mark.parametrize(
    "pattern", ["rocks/*.sst", "rocks/MANIFEST-*", "rocks/CURRENT", "WATERMARK"]
)
def test_missing_file_is_corruption_and_named(closed: Path, scratch: Path, pattern: str) -> None:
    damaged = copy(closed, scratch)
    path = next(iter(damaged.glob(pattern)))
    path.unlink()
    with pytest.raises(errors.CorruptionError, match=path.name):
        found(damaged)


@pytest.mark.parametrize("pattern", ["rocks/MANIFEST-*", "rocks/CURRENT"])
def test_damaged_catalogue_never_gives_a_wrong_answer(
    closed: Path, scratch: Path, pattern: str
) -> None:
    chooser = random.Random(4)
    path = next(iter(closed.glob(pattern)))
    for offset in chooser.sample(range(path.stat().st_size), 12):
        damaged = copy(closed, scratch)
        flip(damaged / path.relative_to(closed), offset, 1 << chooser.randrange(8))
        # It may be refused for another reason than corruption, such as an unknown tag.
        with contextlib.suppress(errors.StoreFailedError):
            refuses(damaged)


@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
def test_type_that_would_hang_rocksdb_is_refused_in_the_manifest(
    closed: Path, scratch: Path, kind: int
) -> None:
    damaged = copy(closed, scratch)
    path = next(iter((damaged / "rocks").glob("MANIFEST-*")))
    content = path.read_bytes()
    second = 7 + int.from_bytes(content[4:6], "little")
    flip(path, second + 6, content[second + 6] ^ kind)
    with pytest.raises(errors.CorruptionError, match=f"{path.name} is damaged at byte {second}$"):
        found(damaged)


@pytest.mark.parametrize("name", ["options", "rocks/IDENTITY", "rocks/LOCK"])
def test_files_that_hold_no_data_may_be_missing(closed: Path, scratch: Path, name: str) -> None:
    damaged = copy(closed, scratch)
    path = damaged / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert found(damaged) == list(range(ROWS))
