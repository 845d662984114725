"""A terminal in front of a fake cluster: commands run as typed, against the real client library."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import orjson
import pytest
from typer.testing import CliRunner

import multiraft
from multiraft.cli.app import app
from multiraft.cli.session import Environment
from multiraft.client.database import Database
from multiraft.runtime import SystemClock
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from tests.support.fake_cluster import FakeCluster, FakeTransport, address_of

T = TypeVar("T")


class Outcome(msgspec.Struct, frozen=True):
    """How a command ended and what it wrote."""

    exit_code: int
    output: bytes
    notes: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.output.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401
        """Standard output as one JSON value."""
        return orjson.loads(self.output)

    @property
    def error(self) -> Any:  # noqa: ANN401
        """The error that was reported as JSON."""
        return orjson.loads(self.notes)["error"]


class Terminal:
    """Runs commands one after another against one cluster, each on virtual time."""

    def __init__(self) -> None:
        self.cluster = FakeCluster(SystemClock())

    def run(self, *arguments: str, stdin: bytes = b"") -> Outcome:
        """Run `multiraft` with these arguments."""
        environment = Environment(connect=self._connect, run=run_on_virtual_time, now=virtual_now)
        result = CliRunner().invoke(app, list(arguments), input=stdin, obj=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout_bytes, result.stderr)

    def rows(self) -> dict[bytes, bytes]:
        """Return all user rows of the cluster."""
        found = {}
        for key in self.cluster.versions:
            value = self.cluster.value(key[1:])
            if key.startswith(b"\x10") and value is not None:
                found[key[1:]] = value
        return found

    def _connect(
        self, *addresses: str, deadline_s: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[Database]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        # The options' addresses name no real node; the fake cluster's first one stands for them.
        return multiraft.connect(
            address_of(self.cluster.node_ids[0], self.cluster.cluster_id),
            deadline_s=deadline_s,
            transport=FakeTransport(self.cluster),
            clock=VirtualClock(loop),
        )


def run_on_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine where waiting costs nothing."""
    return virtual_loop.run(lambda _loop: main)


def virtual_now() -> float:
    """Return the time of the loop that runs; before and after, there is no time."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()
