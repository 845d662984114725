"""docs/architecture/safety-rules.md names the tests that show what it says."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/architecture/safety-rules.md"
LINK = re.compile(r"\]\((?P<path>[^)]+)\)")
NAMED = re.compile(r"\]\((?P<path>[^)]+)\)|`(?P<test>test_[a-z0-9_]+)`")


def named_tests(line: str) -> list[tuple[str, str]]:
    """Return the tests that a row names, each with the file that is linked before it."""
    found, path = [], ""
    for match in NAMED.finditer(line):
        path = match["path"] or path
        if match["test"]:
            found.append((path, match["test"]))
    return found


def test_every_test_that_is_named_is_there() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    named = [each for row in rows for each in named_tests(row)]
    assert len(named) > 50, "the tables are read"
    for path, test in named:
        # A name that ends in an underscore stands for all tests that begin so.
        if path and not test.endswith("_"):
            source = (DOCUMENT.parent / path).read_text()
            assert f"def {test}(" in source, f"{path} has no {test}"


def test_every_file_that_is_linked_is_there() -> None:
    for match in LINK.finditer(DOCUMENT.read_text()):
        path, _, _ = match["path"].partition("#")
        assert not path or (DOCUMENT.parent / path).exists(), path
