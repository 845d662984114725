"""The pytest plugin: fixtures that are a started cluster.

    async def test_with_asyncio(multiraft_cluster): ...          pytest-asyncio or anyio runs it
    def test_without(multiraft_blocking_cluster): ...            needs neither

Purpose
    Two fixtures of one test's life. `multiraft_cluster` runs on the loop of the test, so it needs
    a plugin that gives one, as an `async def` test does anyway. Tests on virtual time need no
    fixture: see `multiraft.testing.simulated`.
Invariants
    - Loading the plugin imports no node, no engine and nothing of asyncio's plugins, and has no
      effect on tests that do not ask for a fixture.
"""

import importlib
from collections.abc import AsyncGenerator, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from multiraft.testing import BlockingCluster, Cluster


@pytest.fixture
def multiraft_blocking_cluster() -> "Generator[BlockingCluster, None, None]":
    """A started three-node cluster for a test without asyncio; see `testing.BlockingCluster`."""
    from multiraft.testing import BlockingCluster

    with BlockingCluster() as cluster:
        yield cluster


async def multiraft_cluster() -> "AsyncGenerator[Cluster, None]":
    """A started three-node cluster on the loop of the test; see `testing.Cluster`."""
    from multiraft.testing import Cluster

    async with Cluster() as cluster:
        yield cluster


def pytest_configure(config: pytest.Config) -> None:
    """Register the asynchronous fixture with whoever runs asynchronous tests here."""
    fixture: Any = pytest.fixture
    if config.pluginmanager.hasplugin("asyncio"):
        fixture = importlib.import_module("pytest_asyncio").fixture
    plugin: Any = ModuleType("multiraft_asynchronous_fixtures")
    plugin.multiraft_cluster = fixture(multiraft_cluster)
    config.pluginmanager.register(plugin)
