from pathlib import Path

import pytest

from multiraft import config, errors
from multiraft.cli import serve
from multiraft.cli.cluster_process import CONFIG_TEXT
from tests.cli.conftest import Terminal


def test_no_file_gives_the_defaults() -> None:
    assert serve.read_config(None) == config.Config()


def test_what_a_file_names_is_changed_and_the_rest_kept(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG_TEXT)
    settings = serve.read_config(file, unsafe_no_fsync=True)
    assert settings.liveness.clock_offset_ms_max == 10
    assert settings.liveness.support_ms == config.LivenessConfig().support_ms
    assert settings.storage.unsafe_no_fsync


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("liveness = 1", "liveness"),
        ("[liveness", "Expected ']'"),
        ("[liveness]\nheartbeat_ms = 'x'", "heartbeat_ms"),
        ("[liveness]\nheartbeat = 1", "heartbeat"),
        ("[livenes]\n", "livenes"),
        ("[liveness]\nsupport_ms = 1", "support_ms"),
        ("[net]\nframe_bytes_max = 1", "frame_bytes_max"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(errors.ConfigError, match=named):
        serve.read_config(file)


def test_a_node_that_cannot_start_ends_with_6_and_one_line(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[liveness]\nsupport_ms = 1")
    outcome = terminal.run("start", "--data", str(tmp_path / "n1"), "--config", str(file))
    assert outcome.exit_code == 6
    assert "support_ms" in outcome.notes
    assert outcome.notes.count("\n") == 1
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize("command", [("start",), ("join", "127.0.0.1:7400")])
@pytest.mark.parametrize("option", ["--listen", "--advertise"])
def test_a_malformed_address_of_its_own_is_refused(
    terminal: Terminal, tmp_path: Path, command: tuple[str, ...], option: str
) -> None:
    data = ("--data", str(tmp_path / "n1"), option, "here")
    outcome = terminal.run(*command, *data)
    assert outcome.exit_code == 2
    assert "HOST:PORT" in outcome.notes
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize("command", [("start",), ("join", "127.0.0.1:7400")])
def test_a_locality_that_cannot_be_is_refused(
    terminal: Terminal, tmp_path: Path, command: tuple[str, ...]
) -> None:
    data = ("--data", str(tmp_path / "n1"), "--locality", "host=alpha,zone=b")
    outcome = terminal.run(*command, *data)
    assert outcome.exit_code == 2
    assert "goes on after 'host'" in " ".join(outcome.notes.split())
    assert not (tmp_path / "n1").exists()
