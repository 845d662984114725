"""The examples of transactions pass, and what is shown of them is what runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
CHAPTER = (DOCS / "transactions.md").read_text()


def run(*command: str, folder: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(DOCS.parent), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_bank_index_and_queue_hold_on_a_cluster_that_is_hurt() -> None:
    options = ("-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short")
    done = run("-m", "pytest", *options, "test_transactions.py")
    assert "5 passed" in done.stdout, done.stdout


def test_the_functions_that_are_shown_are_those_that_run() -> None:
    shown = re.findall(r"<!-- (\w+\.py): (\w+) -->\n```python\n(.*?)```", CHAPTER, re.DOTALL)
    assert len(shown) == 3
    for file, name, text in shown:
        source = (EXAMPLES / file).read_text()
        nodes = [n for n in ast.parse(source).body if isinstance(n, ast.AsyncFunctionDef)]
        (node,) = [each for each in nodes if each.name == name]
        assert text.strip() == ast.get_source_segment(source, node)


def test_the_first_program_of_the_chapter_prints_what_is_shown(tmp_path: Path) -> None:
    program = re.search(r"```python\n(import asyncio\n.*?)```\n\n```\n(.*?)```", CHAPTER, re.DOTALL)
    assert program is not None
    code, output = program.groups()
    hosted = code.replace(
        'multiraft.connect("127.0.0.1:7400")',
        "multiraft.testing.Cluster() as cluster, cluster.connect()",
    )
    assert hosted != code
    (tmp_path / "program.py").write_text(
        hosted.replace("import multiraft\n", "import multiraft.testing\n")
    )
    done = run("program.py", folder=tmp_path)
    assert (done.stdout, done.stderr) == (output, "")
