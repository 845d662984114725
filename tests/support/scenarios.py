"""Scenario files: blocks of commands, `---`, and what they print. `REWRITE=1` prints them anew.

A block ends at an empty line; the state lives on from block to block of a file. Lines that begin
with `#` are for the reader.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

SCENARIOS = Path(__file__).parent.parent / "scenarios"


def check(path: Path, interpret: Callable[[str], Iterator[str]]) -> None:
    """Compare what the commands of the file at `path` print with what it says they print."""
    blocks = path.read_text().strip("\n").split("\n\n")
    actual = "\n\n".join(_run(block, interpret) for block in blocks) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(actual)
    assert path.read_text() == actual


def _run(block: str, interpret: Callable[[str], Iterator[str]]) -> str:
    head, separator, _ = block.partition("\n---")
    lines = [line for line in head.splitlines() if line and not line.startswith("#")]
    printed = [text for line in lines for text in interpret(line)]
    if not printed and not separator:
        return block
    return "\n".join([head, "---", *printed])
