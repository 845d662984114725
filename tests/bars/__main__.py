"""Count a release's bars in full: `python -m tests.bars [NAME...]`; docs/testing.md tells them.

Shows how far it is, then what was counted; exit status 1 if a case was bad. `--count` tries fewer.
"""

import argparse
import faulthandler
import sys
import time

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multiraft.cli import tables
from tests.bars import bar, bit_flips, crash_points, full_disk, hostile_frames
from tests.bars.bar import Bar, Tally

BARS: dict[str, Bar] = {
    each.BAR.name: each.BAR for each in (crash_points, bit_flips, full_disk, hostile_frames)
}

HANG_S = 600
"""A case that takes as long hangs: where, is printed, and the run ends."""
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def _count(chosen: Bar, wanted: int, seed: int, notes: Console) -> Tally:
    with Progress(*_COLUMNS, TimeRemainingColumn(), console=notes, transient=True) as progress:
        shown = progress.add_task(chosen.name, total=wanted)

        def show(tally: Tally) -> None:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            failed = f", [red]{len(tally.problems)} bad[/]" if tally.problems else ""
            progress.update(shown, completed=tally.total, description=chosen.name + failed)

        try:
            return bar.count(chosen, wanted, seed, show)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _show(chosen: Bar, tally: Tally, seconds: float, out: Console) -> None:
    table = tables.table(f"{chosen.about} {tally.total:,} cases in {seconds:,.0f} s.")
    table.add_column("", no_wrap=True)
    for outcome in tally.outcomes:
        table.add_column(outcome, justify="right")
    for kind, counts in tally.counts.items():
        table.add_row(kind, *(f"{counts[outcome]:,}" for outcome in tally.outcomes))
    out.print(table)
    for note in tally.notes:
        out.print(note, soft_wrap=True)
    for problem in tally.problems[: bar.PROBLEMS_SHOWN_MAX]:
        out.print(f"[red]bad[/] {problem}", soft_wrap=True)
    verdict = f"[red]{len(tally.problems)} bad[/]" if tally.problems else "[green]none bad[/]"
    out.print(f"{chosen.name}: {verdict}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bars", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BARS)}")
    parser.add_argument("--count", type=int, help="so many cases of each; default: all")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn; default: 1")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args()
    unknown = set(options.names) - set(BARS)
    if unknown:
        parser.error(f"there is no bar {', '.join(sorted(unknown))}")
    notes, out = Console(stderr=True), Console()
    bad = 0
    for name in options.names or BARS:
        chosen = BARS[name]
        began = time.monotonic()
        tally = _count(chosen, options.count or chosen.full, options.seed, notes)
        seconds = time.monotonic() - began
        bad += len(tally.problems)
        if options.json:
            found = {"bar": name, "seed": options.seed, "seconds": round(seconds, 1)}
            found |= {"counts": tally.counts, "notes": tally.notes, "problems": tally.problems}
            print(msgspec.json.encode(found).decode())
        else:
            _show(chosen, tally, seconds, out)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
