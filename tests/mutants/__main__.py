"""Run every mutant through what must catch it: `python -m tests.mutants [NAME...]`.

Prints a table; exit status 1 if one survived. `--jobs` runs so many side by side, `--markdown`
prints the table as docs/testing.md has it.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from multiraft.testing.runner import RunResult
from tests.mutants import mutants
from tests.mutants.mutants import Mutant

COLUMNS = ("rule", "mutant", "spec or test", "caught at seed", "by")


class Outcome(msgspec.Struct, frozen=True):
    """What became of one mutant."""

    mutant: Mutant
    is_caught: bool
    seed: int
    """The first seed that failed; 0 if none did, or if a test is to catch it."""
    told: str

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return a row of the table."""
        mutant, seed = self.mutant, f"{self.seed} of {self.mutant.seeds}"
        if mutant.test:
            seed = "by the test"
        if not self.is_caught:
            seed = "SURVIVED"
        where = mutant.spec or "test: " + mutant.test.removeprefix("tests/")
        return mutant.rule, mutant.name, where, seed, self.told


def try_one(mutant: Mutant, seeds: int) -> Outcome:
    """Find out whether it is noticed. Raises RuntimeError if it cannot even run."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        mutant.make(Path(directory))
        return _test(mutant, directory) if mutant.test else _simulate(mutant, seeds, directory)


def _simulate(mutant: Mutant, seeds: int, directory: str) -> Outcome:
    """Simulate it until a seed fails."""
    arguments = ["multiraft", "sim", "run", mutant.spec, "--seeds", f"1..{seeds}", "--json"]
    done = _run(mutant, arguments, directory)
    results = msgspec.convert(orjson.loads(done), list[RunResult])
    for result in results:
        if not result.ok:
            return Outcome(mutant, True, result.seed, result.problems[0].splitlines()[0])
    return Outcome(mutant, False, 0, f"survived {len(results)} runs")


def _test(mutant: Mutant, directory: str) -> Outcome:
    """Run the test that must fail."""
    arguments = ["pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:randomly"]
    told = _run(mutant, [*arguments, mutant.test], directory).decode()
    failed = [line for line in told.splitlines() if line.startswith("FAILED")]
    reason = failed[0].partition(" - ")[2] if failed else "the test passed"
    return Outcome(mutant, bool(failed), 0, reason or "the test failed")


def _run(mutant: Mutant, arguments: Sequence[str], directory: str) -> bytes:
    environment = os.environ | {"PYTHONPATH": directory}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name} did not run: {done.stderr.decode()[-2_000:]}")
    return done.stdout


def _print(outcomes: Sequence[Outcome], *, as_markdown: bool) -> None:
    rows = [(*outcome.cells()[:4], outcome.told[:80]) for outcome in outcomes]
    if as_markdown:
        print("| " + " | ".join(COLUMNS[:4]) + " |\n" + "| --- " * 4 + "|")
        for rule, name, where, seed, _ in rows:
            place = re.sub(r"(\S+)::(\S+)", r"`\1` `\2`", where)
            print(f"| {rule} | `{name}` | {place} | {seed} |")
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    Console(width=200).print(table)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, help="instead of the number in the table")
    parser.add_argument("--markdown", action="store_true", help="the table for docs/testing.md")
    options = parser.parse_args()
    wanted = [m for m in mutants.load() if not options.names or m.name in options.names]
    outcomes: list[Outcome] = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(lambda m: try_one(m, options.seeds or m.seeds), wanted):
            outcomes.append(outcome)
            print(f"{outcome.mutant.name}: {outcome.cells()[3]}", file=sys.stderr, flush=True)
    _print(outcomes, as_markdown=options.markdown)
    caught = sum(outcome.is_caught for outcome in outcomes)
    print(f"{caught} caught, {len(outcomes) - caught} survived", file=sys.stderr)
    return 0 if caught == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
