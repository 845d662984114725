"""Handlers of exceptions that no test has entered: `make coverage` prints them.

Lines and branches are a percentage; what a database does when something fails is not. So each body
of an `except` in the packages that keep its promises is entered by a test of `make unit`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage

PACKAGES = ("raft", "storage", "mvcc", "concurrency", "ranges")


def of_module(source: Path) -> Iterator[int]:
    """Yield the first line of the body of each handler."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ExceptHandler):
            yield node.body[0].lineno


def not_entered() -> Iterator[str]:
    """Yield file and line of the handlers that were not entered when coverage was measured last."""
    measured = Coverage()
    measured.load()
    data = measured.get_data()
    for package in PACKAGES:
        for source in sorted(Path("multiraft", package).rglob("*.py")):
            lines = set(data.lines(str(source.resolve())) or ())
            yield from (f"{source}:{line}" for line in of_module(source) if line not in lines)


if __name__ == "__main__":
    found = list(not_entered())
    print("handlers that no test has entered:", *(found or ["none"]))
    sys.exit(bool(found))
