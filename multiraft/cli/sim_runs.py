"""Many simulated runs: one after another, or side by side in processes of their own.

Invariants
    - Results come in the order in which the runs were wanted.
    - Whoever stops taking results ends what still runs; so does Ctrl-C, which the processes leave
      to their parent from their first moment on.
    - A process that is killed from outside ends it all, with an error.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from multiraft import errors
from multiraft.testing import runner
from multiraft.testing.runner import RunResult
from multiraft.testing.spec import Spec

SeededRun = tuple[Spec, int]


def run_all(
    runs: Sequence[SeededRun], jobs: int, tell: Callable[[str], None]
) -> Iterator[RunResult]:
    """Yield the results; `jobs` run at the same time.

    One process alone tells of the rounds of its runs. Raises MultiraftError if one was killed.
    """
    if jobs == 1:
        for spec, seed in runs:
            yield runner.run(spec, seed, tell=tell)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from _start(pool, runs)
        except BrokenProcessPool:
            raise errors.MultiraftError(
                "a process with a run in it was killed, perhaps for want of memory: "
                "try fewer at a time (--jobs)"
            ) from None
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _start(pool: ProcessPoolExecutor, runs: Sequence[SeededRun]) -> Iterator[RunResult]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # processes that start here inherit it
    try:
        return pool.map(_run_one, runs)
    finally:
        signal.signal(signal.SIGINT, before)


def _run_one(run: SeededRun) -> RunResult:
    return runner.run(*run)
