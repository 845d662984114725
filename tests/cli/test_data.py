import pytest

from multiraft.model import encoding
from tests.cli.conftest import Terminal


def test_put_then_get_then_delete(terminal: Terminal) -> None:
    assert terminal.run("put", "a", "1").exit_code == 0
    assert terminal.run("get", "a").output == b"1\n"
    assert terminal.run("delete", "a").exit_code == 0
    outcome = terminal.run("get", "a")
    assert (outcome.exit_code, outcome.output) == (1, b"")
    assert outcome.notes == "not found\n"
    assert terminal.run("delete", "a").exit_code == 1


def test_json_forms(terminal: Terminal) -> None:
    assert terminal.run("put", "a", "1", "--json").json == {"key": "a", "value_bytes": 1}
    assert terminal.run("get", "a", "--json").json == {"key": "a", "found": True, "value": "1"}
    assert terminal.run("get", "b", "--json").json == {"key": "b", "found": False}
    assert terminal.run("delete", "a", "--json").json == {"key": "a", "existed": True}
    assert terminal.run("increment", "n", "--json").json == {"key": "n", "value": 1}


def test_json_may_also_be_asked_for_before_the_command(terminal: Terminal) -> None:
    terminal.cluster.put(b"a", b"\xff")
    assert terminal.run("--json", "get", "a").json == {
        "key": "a",
        "found": True,
        "value_hex": "ff",
    }


def test_keys_may_hold_any_bytes(terminal: Terminal) -> None:
    terminal.run("put", r"a\x00\xff", "zero")
    terminal.run("put", "6200", "ff00", "--hex")
    assert terminal.rows() == {b"a\x00\xff": b"zero", b"b\x00": b"\xff\x00"}
    assert terminal.run("get", r"b\x00", "--hex").exit_code == 2
    assert terminal.run("get", "6200", "--hex").output == b"ff00\n"


def test_the_empty_key_and_the_empty_value_are_legal(terminal: Terminal) -> None:
    assert terminal.run("put", "", "").exit_code == 0
    assert terminal.run("get", "").output == b"\n"


def test_raw_writes_exactly_the_bytes(terminal: Terminal) -> None:
    terminal.cluster.put(b"a", b"\x00\xff\n")
    assert terminal.run("get", "a", "--raw").output == b"\x00\xff\n"
    assert terminal.run("get", "a").output == rb"\x00\xff\x0a" + b"\n"


def test_a_value_comes_from_standard_input(terminal: Terminal) -> None:
    terminal.run("put", "a", "-", stdin=b"\x00\xff\n")
    assert terminal.rows() == {b"a": b"\x00\xff\n"}


def test_put_if_absent_and_put_if_expected(terminal: Terminal) -> None:
    assert terminal.run("put", "a", "1", "--if-absent").exit_code == 0
    refused = terminal.run("put", "a", "2", "--if-absent", "--json")
    assert refused.exit_code == 1
    assert refused.error["code"] == "condition_failed"
    assert terminal.run("put", "a", "2", "--expect", "1").exit_code == 0
    assert terminal.run("put", "a", "3", "--expect", "1").exit_code == 1
    assert terminal.rows() == {b"a": b"2"}
    assert terminal.run("put", "a", "3", "--expect", "2", "--if-absent").exit_code == 2


def test_increment_up_and_down(terminal: Terminal) -> None:
    assert terminal.run("increment", "n", "--by", "5").output == b"5\n"
    assert terminal.run("increment", "n", "--by", "-7").output == b"-2\n"
    assert terminal.run("get", "n", "--counter").output == b"-2\n"
    assert terminal.rows() == {b"n": encoding.pack_counter(-2)}


def test_what_is_no_counter_is_refused_clearly(terminal: Terminal) -> None:
    terminal.cluster.put(b"a", b"text")
    outcome = terminal.run("increment", "a")
    assert outcome.exit_code == 4
    assert "cannot be incremented" in outcome.notes
    assert terminal.run("get", "a", "--counter").exit_code == 2
    assert terminal.run("increment", "a", "--by", str(1 << 63)).exit_code == 2


@pytest.fixture
def filled(terminal: Terminal) -> Terminal:
    for key in (b"a", b"b1", b"b2", b"c\x00"):
        terminal.cluster.put(key, key.upper())
    return terminal


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ((), ["a\tA", "b1\tB1", "b2\tB2", r"c\x00" + "\t" + r"C\x00"]),
        (("b", "c"), ["b1\tB1", "b2\tB2"]),
        (("b2",), ["b2\tB2", r"c\x00" + "\t" + r"C\x00"]),
        (("--prefix", "b", "--reverse"), ["b2\tB2", "b1\tB1"]),
        (("--limit", "1"), ["a\tA"]),
        (("--limit", "0"), []),
        (("--keys-only", "--limit", "2"), ["a", "b1"]),
        (("--hex", "63"), ["6300\t4300"]),
    ],
)
def test_scan(filled: Terminal, arguments: tuple[str, ...], lines: list[str]) -> None:
    outcome = filled.run("scan", *arguments)
    assert outcome.exit_code == 0
    assert outcome.text.splitlines() == lines


def test_scan_as_json_lines(filled: Terminal) -> None:
    outcome = filled.run("scan", "b1", "c", "--json")
    assert outcome.text == '{"key":"b1","value":"B1"}\n{"key":"b2","value":"B2"}\n'


def test_a_span_that_ends_before_it_starts_is_refused(filled: Terminal) -> None:
    outcome = filled.run("scan", "c", "a")
    assert outcome.exit_code == 4
    assert "--reverse" in outcome.notes
    assert filled.run("scan", "a", "--prefix", "a").exit_code == 2


def test_limits_are_told_with_value_limit_and_remedy(terminal: Terminal) -> None:
    outcome = terminal.run("put", "k" * 9_000, "1")
    assert outcome.exit_code == 4
    assert outcome.notes == (
        "error: the key has 9000 bytes; the limit is 8192 — use a shorter key\n"
    )
    outcome = terminal.run("put", "k", "-", stdin=b"v" * ((1 << 20) + 1))
    assert outcome.exit_code == 4
    assert "the value has 1048577 bytes; the limit is 1048576" in outcome.notes


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("7400", "it has no host"),
        ("localhost", "it has no port"),
        ("localhost:99999", "its port is not a number from 0 to 65535"),
        ("http://localhost:7400", "it is no URL"),
    ],
)
def test_a_malformed_address_is_a_wrong_command_line(
    terminal: Terminal, address: str, told: str
) -> None:
    outcome = terminal.run("get", "a", "--address", f"127.0.0.1:7400,{address}", "--json")
    assert outcome.exit_code == 2
    assert f'"{address}" is not an address: ' in outcome.error["problem"]
    assert told in outcome.error["problem"]
