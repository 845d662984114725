"""Directories for tests that open engines by the hundred."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engines


@pytest.fixture(scope="module")
def module_scratch() -> Iterator[Path]:
    """A directory in memory where there is one: what is tested here is not the disk's speed."""
    with tempfile.TemporaryDirectory(dir=engines.memory_directory()) as name:
        yield Path(name)


@pytest.fixture
def scratch(module_scratch: Path) -> Iterator[Path]:
    """The same, for one test."""
    with tempfile.TemporaryDirectory(dir=module_scratch) as name:
        yield Path(name)
