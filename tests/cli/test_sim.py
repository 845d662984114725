"""The commands `sim run`, `sim replay` and `sim list`."""

from pathlib import Path

import msgspec
import orjson
import pytest
from typer.testing import CliRunner

from multiraft.cli.app import app
from multiraft.testing import runner, spec
from multiraft.testing.checkers.verdict import Anomaly, Verdict

CALM = """
name = "calm"
about = "Nothing goes wrong."
seconds = 1.0

[[workload]]
kind = "counter"
clients = 1
"""


def calm(directory: Path) -> str:
    path = directory / "calm.toml"
    path.write_text(CALM)
    return str(path)


def test_list_names_every_spec() -> None:
    done = CliRunner().invoke(app, ["--json", "sim", "list"])
    assert done.exit_code == 0
    assert [row["name"] for row in orjson.loads(done.stdout)] == spec.names()


def test_run_tells_every_run_as_json_and_succeeds(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sim", "run", calm(tmp_path), "--seeds", "3..4", "--json"])
    assert done.exit_code == 0, done.output
    results = orjson.loads(done.stdout)
    assert [(row["spec"], row["seed"], row["problems"]) for row in results] == [
        ("calm", 3, []),
        ("calm", 4, []),
    ]


def test_replay_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "[red]run.html"
    done = CliRunner().invoke(app, ["sim", "replay", calm(tmp_path), "3", "--trace", str(page)])
    assert done.exit_code == 0, done.output
    assert "digest:" in done.stdout
    assert f"trace:    {page}\n" in done.stdout
    assert '"is_failed":false' in page.read_text()
    assert page.read_text().lower().startswith("<!doctype html>")


def test_a_missing_spec_is_named_with_those_that_exist() -> None:
    done = CliRunner().invoke(app, ["sim", "run", "nosuch"])
    assert done.exit_code == 2
    assert "there is no spec 'nosuch'" in done.output


def test_a_spec_with_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(CALM + '\n[[fault]]\nkind = "earthquake"\n')
    done = CliRunner().invoke(app, ["sim", "run", str(path)])
    assert done.exit_code == 2
    assert "earthquake" in done.output


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ("x", "--seeds 'x' is neither a number"),
        ("1..x", "--seeds '1..x' is neither a number"),
        ("5..1", "--seeds 5..1 holds no seed: 1 is below 5"),
        ("-1", "--seeds -1: the first seed is 0"),
        ("-3..3", "--seeds -3..3: the first seed is 0"),
    ],
)
def test_seeds_that_are_no_range_are_refused(seeds: str, told: str) -> None:
    done = CliRunner().invoke(app, ["--json", "sim", "run", "kills", "--seeds", seeds])
    assert done.exit_code == 2
    assert told in orjson.loads(done.stderr)["error"]["problem"]


def test_a_negative_seed_is_not_replayed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sim", "replay", calm(tmp_path), "--", "-1"])
    assert done.exit_code == 2


def test_what_failed_is_told_with_a_line_that_repeats_it(tmp_path: Path) -> None:
    path = tmp_path / "my own.toml"
    path.write_text(CALM + "\n[bounds]\nreplicas = 0\n")
    done = CliRunner().invoke(app, ["sim", "run", str(path), "--seeds", "3..4"])
    assert done.exit_code == 1
    assert "FAILED calm seed 3\n  round 1 ends with 2 replicas, more than 0\n" in done.stderr
    assert f"  again: multiraft sim replay '{path}' 3\n" in done.stderr
    page = tmp_path / "run.html"
    again = CliRunner().invoke(app, ["sim", "replay", str(path), "3", "--trace", str(page)])
    assert again.exit_code == 1
    assert '"is_failed":true' in page.read_text()
    assert f"  again: multiraft sim replay '{path}' 3\n" in again.stderr


def test_what_was_wrong_in_a_replay_is_told_once_and_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = Verdict("counter", 5, (Anomaly("lost-increment", "#3 is nowhere"),))
    result = runner.run(spec.load(calm(tmp_path)), 3)
    wrong = msgspec.structs.replace(result, verdicts=(verdict,), problems=(str(verdict),))
    monkeypatch.setattr(runner, "run", lambda *_: wrong)
    done = CliRunner().invoke(app, ["sim", "replay", calm(tmp_path), "3"])
    assert done.exit_code == 1
    assert done.stdout.endswith("\nverdict:  counter: an anomaly in 5 operations\n")
    assert done.output.count("#3 is nowhere") == 1
    assert done.output.index("verdict:") < done.output.index("FAILED calm seed 3")


def test_a_page_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run", None)
    page = tmp_path / "nosuch" / "run.html"
    done = CliRunner().invoke(app, ["sim", "replay", calm(tmp_path), "3", "--trace", str(page)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {page}: No such file or directory")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"\xff", "can't decode byte 0xff"),
        (b"[[[", "at line 1"),
        (CALM.replace("clients = 1", "clients = 0").encode(), "Expected `int` >= 1"),
        (CALM.replace("seconds = 1.0", "seconds = 0.0").encode(), "Expected `float` > 0"),
        (CALM.replace("seconds = 1.0", "nodes = 0").encode(), "Expected `int` >= 1"),
        (CALM.replace("seconds = 1.0", "rounds = 0").encode(), "Expected `int` >= 1"),
        (b'name = "x"\nabout = "y"\nworkload = []\n', "length >= 1"),
        (CALM.encode() + b'[config.raft]\nretry_ticks = "x"\n', "Expected `int`, got `str`"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(tmp_path: Path, written: bytes, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(written)
    done = CliRunner().invoke(app, ["--json", "sim", "run", str(path)])
    assert done.exit_code == 2
    problem = orjson.loads(done.stderr)["error"]["problem"]
    assert problem.startswith(f"Invalid value: {path}: ")
    assert told in problem


def test_a_run_of_several_rounds_tells_of_each(tmp_path: Path) -> None:
    path = tmp_path / "rounds.toml"
    path.write_text("rounds = 2" + CALM)
    done = CliRunner().invoke(app, ["sim", "run", str(path), "--seeds", "3"])
    assert done.exit_code == 0, done.output
    assert "round 1 of 2: virtual_s=" in done.stderr
    assert "round 2 of 2: virtual_s=" in done.stderr


def test_a_bound_for_what_is_not_counted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(CALM + "\n[bounds]\nelephants = 1\n")
    done = CliRunner().invoke(app, ["--json", "sim", "run", str(path)])
    assert done.exit_code == 2
    told = orjson.loads(done.stderr)["error"]["problem"]
    assert "bounds has no 'elephants', but: replicas" in told
