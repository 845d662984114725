from pathlib import Path

from multiraft.cli.torture import command
from multiraft.cli.torture.run import refuse_what_needs_simulation
from multiraft.testing import spec
from tests.cli.conftest import Terminal


def test_the_specs_that_come_with_it_suit_real_processes() -> None:
    for name in command.builtin_names():
        loaded = spec.load(str(command.SPECS / f"{name}.toml"))
        assert loaded.name == name
        refuse_what_needs_simulation(loaded)


def test_their_names_are_not_those_of_simulated_specs() -> None:
    assert not set(command.builtin_names()) & set(spec.names())


def test_a_fault_that_needs_simulation_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    outcome = terminal.run("--json", "torture", "kills", "--data", str(tmp_path / "data"))
    assert outcome.exit_code == 6
    assert "'kill-at-step' needs a simulated cluster" in outcome.error["problem"]
    assert not (tmp_path / "data").exists()


def test_localities_of_simulated_nodes_are_refused(terminal: Terminal, tmp_path: Path) -> None:
    outcome = terminal.run("--json", "torture", "hosts", "--data", str(tmp_path / "data"))
    assert outcome.exit_code == 6
    assert "real processes share one machine" in outcome.error["problem"]


def test_a_spec_that_does_not_exist_is_refused(terminal: Terminal) -> None:
    outcome = terminal.run("--json", "torture", "nothing")
    assert outcome.exit_code == 6
    assert "there is no spec 'nothing'" in outcome.error["problem"]
