"""What an application may import, and what it thereby gets."""

import importlib
import inspect
import subprocess
import sys

import pytest

import multiraft
from multiraft import blocking
from multiraft.client.admin import Admin

NAMES = ["ANY", "Batch", "Database", "Transaction", "blocking", "connect", "errors"]
HEAVY = ("rocksdict", "typer", "rich", "multiraft.node", "multiraft.ranges")


def test_the_public_names() -> None:
    assert sorted(multiraft.__all__) == sorted(NAMES)
    for name in NAMES:
        assert hasattr(multiraft, name)


@pytest.mark.parametrize("name", ["blocking", "errors"])
def test_modules_are_imported_as_they_are_named(name: str) -> None:
    assert importlib.import_module(f"multiraft.{name}") is getattr(multiraft, name)


def test_every_public_method_says_what_its_signature_cannot() -> None:
    for kind in (
        multiraft.Database,
        multiraft.Transaction,
        multiraft.Batch,
        Admin,
        blocking.Database,
        blocking.Transaction,
        blocking.Admin,
    ):
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                assert member.__doc__, f"{kind.__name__}.{name}"
    assert multiraft.connect.__doc__
    assert blocking.connect.__doc__


def test_the_blocking_shell_has_every_method() -> None:
    for theirs, ours, not_there in (
        # Waiting is done in another thread, where rows come in pages by themselves.
        (multiraft.Database, blocking.Database, {"scan_pages"}),
        (multiraft.Transaction, blocking.Transaction, {"scan_pages"}),
        (Admin, blocking.Admin, set()),
    ):
        missing = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(ours))
        assert missing == not_there, ours.__name__


def test_a_client_needs_neither_the_engine_nor_the_command_line() -> None:
    program = "import sys, multiraft; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = done.stdout.split()
    assert "multiraft.client.database" in loaded
    assert not [name for name in loaded if name.startswith(HEAVY)]
