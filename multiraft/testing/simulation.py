"""An application and its cluster on one virtual clock, from one seed.

    async def main(cluster: Cluster) -> None:
        async with cluster.connect() as db: ...

    for seed in range(100):
        run_simulated(main, seed=seed)

Purpose
    Run unchanged asyncio code against a real cluster that is hurt, a hundred times faster than in
    real time, and repeat a failure from its seed as often as one likes.
Invariants
    - `asyncio.sleep`, timeouts and `loop.time()` are virtual: waiting costs nothing.
    - The seed decides everything, as long as the application draws its random numbers from it
      (`cluster.random`), reads no clock but the loop's, and starts no thread.
    - What fails says how to repeat it.
"""

import asyncio
import functools
import inspect
import os
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from multiraft.config import Config
from multiraft.sim import loop as virtual_loop
from multiraft.sim.collector import without_collector
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.network import LAN
from multiraft.testing import arguments
from multiraft.testing.cluster import SETTINGS, Cluster
from multiraft.testing.cluster_status import MisuseError

T = TypeVar("T")

SEED_VARIABLE = "MULTIRAFT_SEED"
"""In the environment: `simulated` tests run with this seed alone."""

LIMIT_S = 600.0
SYNC_S = 0.001
"""How long a simulated disk takes to sync."""


def run_simulated(
    main: Callable[[Cluster], Coroutine[Any, Any, T]],
    *,
    seed: int = 1,
    nodes: int = 3,
    config: Config = SETTINGS,
    localities: Sequence[str] = (),
    limit_s: float = LIMIT_S,
) -> T:
    """Start a cluster on virtual time, run `main(cluster)` to its end, and return what it returns.

    Frames take fractions of a millisecond, disks one, and the order in which nodes and clients get
    to run is drawn, all from `seed`. What `main` raises is raised, with a note of the seed and the
    time. StuckError, if it has not ended after `limit_s` virtual seconds.

    No event loop may be running in this thread. Sockets, threads and subprocesses do not work on
    the virtual loop.
    """
    arguments.check_seconds("limit_s", limit_s, least=0.0)
    _refuse_within_a_loop()

    async def on_loop(loop: VirtualLoop) -> T:
        made = Cluster(nodes, seed=seed, config=config, localities=localities)
        async with made as cluster:
            cluster.simulated.conditions.delay = LAN
            for member in cluster.simulated.members.values():
                member.sync_delay_s = SYNC_S
            return await main(cluster)

    with without_collector():
        return _run(on_loop, seed, limit_s)


def _run(on_loop: Callable[[VirtualLoop], Coroutine[Any, Any, T]], seed: int, limit_s: float) -> T:
    """Run it with the scheduling of the seed; what is raised says how to repeat it."""
    loops: list[VirtualLoop] = []

    def noted(loop: VirtualLoop) -> Coroutine[Any, Any, T]:
        loops.append(loop)
        return on_loop(loop)

    scheduling = random.Random(f"scheduling {seed}")
    try:
        return virtual_loop.run(noted, limit_s=limit_s, scheduling=scheduling)
    except BaseException as error:
        if loops:
            error.add_note(f"seed {seed}, {loops[0].time():.3f} s of virtual time")
        raise


def _refuse_within_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise MisuseError("a simulation has a loop of its own: run it outside of `async def`")


def simulated(
    *,
    seed: int = 1,
    seeds: int = 1,
    nodes: int = 3,
    config: Config = SETTINGS,
    localities: Sequence[str] = (),
    limit_s: float = LIMIT_S,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make a plain test function of an `async def` test that asks for `cluster`, `db`, or both.

        @multiraft.testing.simulated(seeds=50)
        async def test_nothing_is_counted_twice(cluster, db): ...

    It runs as `run_simulated` does, once for each of `seeds` seeds from `seed` on, each time on a
    new cluster; `db` is a client of it. Other parameters are left to pytest, so fixtures and
    `parametrize` work. A failure carries the command that repeats it. Needs no plugin.
    """
    arguments.check_int("seed", seed)
    arguments.check_int("seeds", seeds, least=1)  # A test that never runs cannot fail.

    def wrap(main: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        signature = inspect.signature(main)
        wanted = [name for name in ("cluster", "db") if name in signature.parameters]
        if not wanted or not inspect.iscoroutinefunction(main):
            raise MisuseError(
                f"{main.__qualname__}: a simulated test is an `async def` with a parameter "
                "`cluster` or `db`"
            )

        @functools.wraps(main)
        def test(*args: Any, **named: Any) -> None:  # noqa: ANN401
            async def run(cluster: Cluster) -> None:
                async with cluster.connect() as db:
                    given = {"cluster": cluster, "db": db}
                    await main(*args, **named, **{name: given[name] for name in wanted})

            for number in _seeds(seed, seeds):
                try:
                    run_simulated(
                        run,
                        seed=number,
                        nodes=nodes,
                        config=config,
                        localities=localities,
                        limit_s=limit_s,
                    )
                except BaseException as error:
                    error.add_note(f"to repeat: {SEED_VARIABLE}={number} {_command(main)}")
                    raise

        others = [p for name, p in signature.parameters.items() if name not in wanted]
        test.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return test

    return wrap


def _seeds(first: int, count: int) -> Iterator[int]:
    alone = os.environ.get(SEED_VARIABLE)
    if alone is None:
        yield from range(first, first + count)
    else:
        try:
            yield int(alone)
        except ValueError:
            raise MisuseError(f"{SEED_VARIABLE} is {alone!r}, but must be a number") from None


def _command(main: Callable[..., object]) -> str:
    """Return what runs this test alone."""
    running, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")
    return f"pytest '{running}'" if running else f"{main.__module__}.{main.__qualname__}"
