"""The chapter on testing applications shows the example as it is, and the output it has."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
CHAPTER = (DOCS / "testing-your-app.md").read_text()
README = (DOCS.parent / "README.md").read_text()
SHOWN = re.compile(r"<!-- (.+?) -->\n```\w*\n(.*?)\n```", re.DOTALL)
# pytest cuts no line of its summary where one of the last two says that it runs in CI.
PRINTS_OTHERWISE = {"MULTIRAFT_SEED", "PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"}
FAILED = "test_jobs.py::test_every_job_is_paid_for_once[Queue]"


def shown(title: str) -> str:
    blocks: dict[str, str] = dict(SHOWN.findall(CHAPTER))
    return blocks[title]


def source(file: str, name: str) -> str:
    """Return a function of an example as it is written, decorators included."""
    text = (EXAMPLES / file).read_text()
    node: ast.Module | ast.ClassDef | ast.AsyncFunctionDef = ast.parse(text)
    for part in name.split("."):
        definitions = (ast.ClassDef, ast.AsyncFunctionDef)
        inside = [each for each in node.body if isinstance(each, definitions)]
        node = next(each for each in inside if each.name == part)
    assert isinstance(node, ast.AsyncFunctionDef), name
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def run(*what: str, seed: str | None = None) -> str:
    """Return what pytest prints of the examples on a terminal of 80 columns, as plain text."""
    plain = {name: value for name, value in os.environ.items() if name not in PRINTS_OTHERWISE}
    environment = plain | {"PYTHONPATH": str(DOCS.parent), "COLUMNS": "80", "NO_COLOR": "1"}
    if seed is not None:
        environment["MULTIRAFT_SEED"] = seed
    options = ("-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *what],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return done.stdout.strip()


def without_numbers(output: str) -> str:
    """Leave out what another machine, or another version of the database, may change."""
    output = re.sub(r" \(\d+:\d\d:\d\d\)", "", output)  # So pytest adds to more than a minute.
    one_job = re.sub(r"jobs/\d+(', '|, )?", "J", output)
    return re.sub(r"J+", "J", re.sub(r"[\d.]+", "N", one_job))


@pytest.mark.parametrize(
    "title", [title for title, _ in SHOWN.findall(CHAPTER) if title.partition(": ")[1]]
)
def test_the_code_that_is_shown_is_the_code_that_runs(title: str) -> None:
    file, _, name = title.partition(": ")
    assert shown(title) == source(file, name)


def test_the_planted_bug_is_found_the_fix_holds_and_the_failure_repeats() -> None:
    output = run("test_jobs.py")
    assert without_numbers(output) == without_numbers(shown("output of test_jobs.py"))
    assert f"FAILED {FAILED}" in output
    assert "1 failed, 3 passed" in output
    errors = re.findall(r"^E .*", output, re.MULTILINE)
    seed = re.search(r"MULTIRAFT_SEED=(\d+)", output)
    assert seed is not None
    again = run(FAILED, seed=seed[1])
    assert re.findall(r"^E .*", again, re.MULTILINE) == errors


def test_a_checker_finds_the_stale_reads_of_a_cache() -> None:
    for output in (run("test_cache.py"), shown("output of test_cache.py")):
        assert "nonlinearizable: no order of these operations on b'k'" in output
        assert "FAILED test_cache.py::test_everybody_sees_what_was_written[cached]" in output
        assert "1 failed, 1 passed" in output


def test_the_example_of_the_readme_passes(tmp_path: Path) -> None:
    example = re.search(r"```python\n(from multiraft.testing .*?)```", README, re.DOTALL)
    assert example is not None
    (tmp_path / "test_visits.py").write_text(example[1])
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\n")
    assert "1 passed" in run(str(tmp_path), seed="1")
