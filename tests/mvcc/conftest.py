"""Both engines, and readers of their newest state and of a view."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from multiraft.mvcc.reader import EngineReader, Reader, ViewReader
from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.rocks import RocksEngine


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened: Engine
    opened = MemoryEngine() if request.param == "memory" else RocksEngine.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(params=["engine", "view"])
def reader_of(
    request: pytest.FixtureRequest, engine: Engine
) -> Iterator[Callable[[Engine], Reader]]:
    """Return how to read the newest state of an engine: at once, or through a view of it."""
    opened = []

    def of_view(engine: Engine) -> Reader:
        view = engine.view()
        opened.append(view)
        return ViewReader(view, engine.data)

    yield EngineReader if request.param == "engine" else of_view
    for view in opened:
        view.close()
