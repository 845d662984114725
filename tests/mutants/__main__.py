"""Run every mutant through the spec that must catch it: `python -m tests.mutants [NAME...]`.

Prints a table; exit status 1 if one survived. `--jobs` runs so many side by side.
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from multiraft.testing.runner import RunResult
from tests.mutants import mutants
from tests.mutants.mutants import Mutant


class Outcome(msgspec.Struct, frozen=True):
    """What became of one mutant."""

    mutant: Mutant
    seed: int | None
    """The first seed that failed; None: it survived."""
    told: str

    @property
    def is_caught(self) -> bool:
        """Whether it was."""
        return self.seed is not None


def try_one(mutant: Mutant, seeds: int) -> Outcome:
    """Simulate the mutant until a seed fails. Raises RuntimeError if it cannot even run."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        mutant.make(Path(directory))
        command = [sys.executable, "-m", "multiraft", "sim", "run", mutant.spec]
        command += ["--seeds", f"1..{seeds}", "--json"]
        environment = os.environ | {"PYTHONPATH": directory}
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{mutant.name} did not run: {done.stderr.decode()[-2_000:]}")
        results = msgspec.convert(orjson.loads(done.stdout), list[RunResult])
        for result in results:
            if not result.ok:
                return Outcome(mutant, result.seed, result.problems[0].splitlines()[0])
        return Outcome(mutant, None, f"survived {len(results)} runs")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, help="instead of the number in the table")
    options = parser.parse_args()
    wanted = [m for m in mutants.load() if not options.names or m.name in options.names]
    table = Table("rule", "mutant", "spec", "caught at seed", "by")
    survived = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(lambda m: try_one(m, options.seeds or m.seeds), wanted):
            mutant = outcome.mutant
            survived += not outcome.is_caught
            seed = f"{outcome.seed} of {mutant.seeds}" if outcome.is_caught else "SURVIVED"
            table.add_row(mutant.rule, mutant.name, mutant.spec, seed, outcome.told[:80])
            print(f"{mutant.name}: {seed}", file=sys.stderr, flush=True)
    Console(width=200).print(table)
    print(f"{len(wanted) - survived} caught, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
