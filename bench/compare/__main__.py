"""The command `python -m bench.compare`: run the comparison, or show one again from its records."""

import argparse
import asyncio
import datetime
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from bench.compare import plot, records, report, runner
from bench.compare.peer import WRITES_AND_READS, Data, Operation, Peer
from bench.compare.peers import peers
from multiraft import runtime

RESULTS = Path(__file__).parent / "results"

_NOTHING_TO_RUN = 1
_INTERRUPTED = 130
"""The exit status by which shells tell Ctrl-C."""

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the options say."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(log_path=False)
    console.width = max(console.width, report.WIDTH)
    if options.again:
        _show(records.read(options.again), options.output or options.again[0].parent, console)
        return
    every = peers(options.etcd)
    taking_part = _installed([every[name] for name in options.only], console)
    if not taking_part:
        parser.exit(_NOTHING_TO_RUN, "none of these peers can run here\n")
    directory = options.output or RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M%S}"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "rounds.jsonl"
    if file.exists():
        parser.error(f"{file} is another run's: name another directory")
    plan = runner.Plan(
        operations=options.operations,
        callers=options.callers,
        rounds=options.rounds,
        seconds=options.seconds,
        data=Data(options.keys, options.value_bytes),
        directory=options.data,
    )
    work = runner.Runner(plan, console.log, lambda record: records.append(file, record))
    try:
        runtime.run(_until_told(work, taking_part))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted", style="yellow")
        raise SystemExit(_INTERRUPTED) from None
    finally:
        if file.exists():
            _show(records.read([file]), directory, console)


async def _until_told(work: runner.Runner, taking_part: Sequence[Peer]) -> None:
    """Run to the end, or until SIGTERM, which ends servers in the same way as Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work.run(taking_part)


def _installed(wanted: Sequence[Peer], console: Console) -> list[Peer]:
    found = []
    for peer in wanted:
        missing = peer.missing()
        if missing is None:
            found.append(peer)
        else:
            console.print(f"{peer.name} is left out: it needs {missing}", style="yellow")
    return found


def _show(found: Sequence[records.Record], directory: Path, console: Console) -> None:
    """Print the report, and write it and the plot to the directory."""
    report.show(found, console)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.md").write_text(report.markdown(found))
    missing = plot.missing()
    if missing is None:
        plot.draw(found, directory)
    else:
        console.print(f"no plot: it needs {missing}", style="yellow")
    console.print(f"written to {directory}", style="dim")


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    usual = [operation for operation in Operation if operation in WRITES_AND_READS]
    names = list(peers())
    add = made.add_argument
    add("--rounds", type=int, default=5, metavar="N", help="turns of each peer (default: 5)")
    add("--seconds", type=float, default=3.0, metavar="S", help="of each load (default: 3)")
    add(
        "--callers",
        type=_numbers,
        default=[1, 16, 64, 256],
        metavar="N[,N...]",
        help="how many at a time (default: 1,16,64,256)",
    )
    add(
        "--operations",
        type=_one_of(Operation),
        default=usual,
        metavar="OPERATION[,...]",
        help=f"of {', '.join(Operation)} (default: {', '.join(usual)})",
    )
    add(
        "--only",
        type=_one_of(names),
        default=names,
        metavar="PEER[,...]",
        help=f"of {', '.join(names)} (default: all)",
    )
    add("--etcd", type=Path, metavar="FILE", help="its server (default: on the PATH, or of PyPI)")
    add("--keys", type=int, default=10_000, metavar="N", help="rows there are (default: 10,000)")
    add("--value-bytes", type=int, default=256, metavar="N", help="of each row (default: 256)")
    add(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir()),
        metavar="DIR",
        help="where clusters have their files: not on tmpfs, where a sync costs nothing",
    )
    add("--output", type=Path, metavar="DIR", help=f"of the results (default: {RESULTS}/TIME)")
    add(
        "--again",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="run nothing: make tables and plot of these records",
    )
    return made


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _one_of(names: Iterable[T]) -> Callable[[str], list[T]]:
    """Return what reads a list of these names."""
    by_name = {str(name): name for name in names}

    def read(text: str) -> list[T]:
        unknown = [part for part in text.split(",") if part not in by_name]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(by_name)}")
        return [by_name[part] for part in text.split(",")]

    return read


if __name__ == "__main__":
    main()
