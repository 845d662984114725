"""The pytest plugin, in a pytest of its own."""

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

PLUGIN = "multiraft.testing.plugin"
NO_ASYNCIO = ("-p", "no:asyncio")
TESTS = """
import pytest

def test_without_asyncio(multiraft_blocking_cluster):
    with multiraft_blocking_cluster.connect() as db:
        db.put(b"k", b"v")
        assert db.get(b"k") == b"v"
"""
ASYNCHRONOUS = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{mark}
async def test_with_asyncio(multiraft_cluster):
    async with multiraft_cluster.connect() as db:
        await db.put(b"k", b"v")
        assert await db.get(b"k") == b"v"
"""
FAILING = """
import multiraft.testing

@multiraft.testing.simulated(seed=3, seeds=2, nodes=1)
async def test_it(cluster):
    raise AssertionError("planted")
"""


def run(where: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (where / "test_given.py").write_text(text)
    (where / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # An installation with the entry point has loaded it already.
    plugin = () if entry_points(group="pytest11", name="multiraft") else ("-p", PLUGIN)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *options],
        cwd=where,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_test_without_asyncio_gets_a_blocking_cluster(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS, *NO_ASYNCIO)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("package", "mark", "options"),
    [
        ("pytest_asyncio", "asyncio", ("-o", "asyncio_default_fixture_loop_scope=function")),
        ("anyio", "anyio", NO_ASYNCIO),
    ],
)
def test_an_asynchronous_test_gets_a_cluster_on_its_own_loop(
    tmp_path: Path, package: str, mark: str, options: tuple[str, ...]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = run(tmp_path, ASYNCHRONOUS.format(mark=mark), *options)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_simulated_test_that_fails_prints_what_repeats_it(tmp_path: Path) -> None:
    done = run(tmp_path, FAILING, *NO_ASYNCIO)
    assert "planted" in done.stdout
    assert "to repeat: MULTIRAFT_SEED=3 pytest 'test_given.py::test_it'" in done.stdout


def test_pytest_finds_it_by_its_entry_point() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"multiraft": PLUGIN}


def test_it_loads_no_node_and_no_engine() -> None:
    program = f"import sys, {PLUGIN}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    heavy = ("rocksdict", "sortedcontainers", "multiraft.node", "multiraft.sim", "pytest_asyncio")
    assert not [name for name in done.stdout.split() if name.startswith(heavy)]
