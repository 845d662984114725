import importlib.metadata
import inspect

import orjson
import pytest
from typer.testing import CliRunner

from multiraft import errors
from multiraft.cli import app, failure
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import Session
from multiraft.model import requests
from tests.cli.conftest import Terminal
from tests.support.fake_cluster import EVALUATE, Plan

EXAMPLES: list[tuple[errors.MultiraftError, ExitCode]] = [
    (errors.NodeUnavailableError(target="a:1", reason="refused"), ExitCode.UNAVAILABLE),
    (errors.OverloadedError(what="r2", retry_after_ms=5), ExitCode.UNAVAILABLE),
    (errors.DeadlineExceededError(deadline_s=1, last_error="x"), ExitCode.UNAVAILABLE),
    (errors.DiskFullError(path="/d", free_bytes=1, reserve_bytes=2), ExitCode.UNAVAILABLE),
    (errors.OutcomeUnknownError(reason="x"), ExitCode.OUTCOME_UNKNOWN),
    (errors.KeyTooLargeError(size_bytes=2, limit_bytes=1), ExitCode.REFUSED),
    (errors.AdminRefusedError(reason="x"), ExitCode.REFUSED),
    (errors.ConditionFailedError(key="k", actual=None), ExitCode.NEGATIVE),
    (errors.AddressInUseError("port 1 is taken"), ExitCode.STARTUP),
    (errors.CorruptionError(reason="x"), ExitCode.STORE_FAILED),
    (errors.MultiraftError("of a newer version"), ExitCode.REFUSED),
]


@pytest.mark.parametrize(("error", "code"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_the_exit_code_says_what_kind_of_failure_it_was(
    error: errors.MultiraftError, code: ExitCode
) -> None:
    told = failure.describe(error)
    assert (told.exit_code, told.code, told.problem) == (code, error.code, error.message)


def test_every_class_of_the_tree_can_be_told() -> None:
    for kind in errors.BY_CODE.values():
        error = kind.__new__(kind)
        errors.MultiraftError.__init__(error, "message")
        assert failure.describe(error).problem == "message"


def test_the_help_names_every_exit_code() -> None:
    for code in ExitCode:
        assert f"{code.value} " in app.EPILOG


def refuse_puts(terminal: Terminal, error: errors.MultiraftError) -> None:
    def decide(_node: object, request: requests.BatchRequest) -> Plan:
        is_put = isinstance(request.operations[0], requests.Put)
        return Plan(refusal=error) if is_put else EVALUATE

    terminal.cluster.intercept = decide


def test_people_get_one_line_with_problem_and_remedy(terminal: Terminal) -> None:
    refuse_puts(terminal, errors.AdminRefusedError(reason="r1 is never split"))
    outcome = terminal.run("put", "a", "1")
    assert outcome.exit_code == ExitCode.REFUSED
    assert outcome.notes == "error: r1 is never split\n"
    assert outcome.output == b""


def test_programs_get_an_object_on_standard_error(terminal: Terminal) -> None:
    refuse_puts(terminal, errors.AdminRefusedError(reason="no"))
    outcome = terminal.run("put", "a", "1", "--json")
    assert outcome.output == b""
    assert orjson.loads(outcome.notes) == {
        "error": {"code": "admin_refused", "problem": "no", "remedy": "", "exit_code": 4}
    }


@pytest.mark.parametrize(
    ("line", "problem", "remedy"),
    [
        ("--json get", "Missing argument", "`multiraft get --help` tells what it takes"),
        ("get a --fast --json", "No such option: --fast", "`multiraft get --help`"),
        ("--fast --json", "No such option: --fast", "`multiraft --help`"),
        ("fetch a --json", "No such command 'fetch'", "`multiraft --help`"),
        ("--json sim", "a command is missing", "`multiraft sim --help`"),
        ("scan a --prefix b --json", "exclude each other", "`multiraft scan --help`"),
        ("get a --address nowhere --json", "write HOST:PORT", "`multiraft get --help`"),
        (r"get a\q --json", "unknown escape", ""),
        ("txn --json", "line 2: 'fetch' is not known", ""),
    ],
)
def test_programs_get_an_object_for_a_wrong_command_line_or_script(
    terminal: Terminal, line: str, problem: str, remedy: str
) -> None:
    outcome = terminal.run(*line.split(), stdin=b"put a 1\nfetch a\n")
    assert outcome.exit_code == ExitCode.USAGE
    assert (outcome.error["code"], outcome.error["exit_code"]) == ("usage", ExitCode.USAGE)
    assert problem in outcome.error["problem"]
    assert outcome.error["remedy"].startswith(remedy)
    assert terminal.rows() == {}


def test_a_word_after_two_dashes_does_not_ask_for_json(terminal: Terminal) -> None:
    outcome = terminal.run("get", "a", "--", "--json")
    assert outcome.exit_code == ExitCode.USAGE
    assert outcome.notes.startswith("Usage: ")


def test_a_wrong_script_is_told_in_one_line(terminal: Terminal) -> None:
    outcome = terminal.run("txn", stdin=b"get\n")
    assert outcome.notes == "error: line 1: get: write: get KEY [--for-update] [--counter]\n"


def test_no_cluster_ends_with_its_address_and_a_remedy(terminal: Terminal) -> None:
    terminal.cluster.down.update(terminal.cluster.node_ids)
    outcome = terminal.run("get", "a")
    assert outcome.exit_code == ExitCode.UNAVAILABLE
    assert "n1 is not reachable" in outcome.notes
    assert "--address" in outcome.notes
    assert outcome.notes.count("\n") == 1


def test_a_deadline_names_its_length(terminal: Terminal) -> None:
    terminal.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
    outcome = terminal.run("get", "a", "--timeout", "2.5")
    assert outcome.exit_code == ExitCode.UNAVAILABLE
    assert "no answer within 2.5 s" in outcome.notes
    assert "multiraft status" in outcome.notes
    assert "multiraft locks" in outcome.notes


def test_a_lost_reply_to_a_write_is_told_as_unknown(terminal: Terminal) -> None:
    terminal.cluster.intercept = lambda _node, request: Plan(
        drop_reply=isinstance(request.operations[0], requests.Put)
    )
    outcome = terminal.run("put", "a", "1", "--timeout", "2")
    assert outcome.exit_code == ExitCode.OUTCOME_UNKNOWN
    assert "read the key" in outcome.notes


def test_a_mistake_of_ours_shows_no_traceback_unless_asked(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(failure.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr(Session, "run", lambda _self, _work: int("x"))
    outcome = terminal.run("get", "a")
    assert outcome.exit_code == ExitCode.INTERNAL
    assert "ValueError" in outcome.notes
    assert failure.DEBUG_VARIABLE in outcome.notes
    assert "Traceback" not in outcome.notes
    monkeypatch.setenv(failure.DEBUG_VARIABLE, "1")
    assert "Traceback" in terminal.run("get", "a").notes


@pytest.mark.parametrize("address", ["nowhere", ":7400", "host:", "host:x", "host:70000", ","])
def test_a_malformed_address_is_a_wrong_command_line(terminal: Terminal, address: str) -> None:
    outcome = terminal.run("get", "a", "--address", address)
    assert outcome.exit_code == ExitCode.USAGE
    assert "HOST:PORT" in outcome.notes


def test_a_command_without_a_cluster_does_not_mind_a_malformed_address(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIRAFT_ADDRESS", "nowhere")
    assert terminal.run("version").exit_code == ExitCode.OK
    assert terminal.run("get", "a").exit_code == ExitCode.USAGE


def test_every_command_takes_json_and_has_a_help_text(terminal: Terminal) -> None:
    for command in app.app.registered_commands:
        assert command.callback is not None
        assert "json" in inspect.signature(command.callback).parameters
        outcome = terminal.run(command.callback.__name__, "--help")
        assert outcome.exit_code == ExitCode.OK
        assert "Usage" in outcome.text


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_command_needs_nothing_from_whoever_starts_it(asked: str) -> None:
    result = CliRunner().invoke(app.app, [asked])
    assert result.exit_code == ExitCode.OK
    assert result.stdout == f"multiraft {importlib.metadata.version('multiraft')}\n"
