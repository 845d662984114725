"""What is kept of a run that failed: its histories, and the directory of its nodes.

Invariants
    - A directory that is kept says what was wrong with it: `problems.txt`.
"""

from pathlib import Path

from multiraft.cli.torture.run import Clients, TortureRun
from multiraft.testing import history_file
from multiraft.testing.checkers import MODELS


def keep(run: TortureRun, problems: tuple[str, ...]) -> tuple[str, ...]:
    """Write a run's histories into its directory, and return the lines that check them again."""
    (run.directory / "problems.txt").write_text("\n\n".join(problems) + "\n")
    return tuple(
        line
        for number, clients in enumerate(run.clients, start=1)
        for line in _keep_history(run.directory, number, clients)
    )


def _keep_history(directory: Path, number: int, clients: Clients) -> list[str]:
    file = directory / f"history{number}-{clients.workload.name}.jsonl"
    history_file.save(file, clients.history)
    models = [each.model for each in clients.verdicts if each.model in MODELS]
    return [f"multiraft check {file} --model {model}" for model in models]
