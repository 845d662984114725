"""The option `--at`, and what is told of the past that is kept."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from multiraft.cli import past
from multiraft.client.moment import Moment
from multiraft.ids import NodeId, Timestamp
from multiraft.model import keys, protection
from multiraft.model.protection import Protection
from tests.cli.conftest import Terminal


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10m", timedelta(minutes=10)),
        ("-10m", timedelta(minutes=10)),
        ("1d2h3m4.5s", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("90s", timedelta(seconds=90)),
        ("6963200012451844096", 6963200012451844096),
        ("2030-01-31T12:00:00Z", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31 12:00:00+00:00", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31 12:00", datetime(2030, 1, 31, 12).astimezone()),
        ("20300131", datetime(2030, 1, 31).astimezone()),
    ],
)
def test_a_moment_is_told_as_people_tell_it(text: str, meant: Moment) -> None:
    assert past.parse(text) == meant


@pytest.mark.parametrize("text", ["", "-", "yesterday", "10", "10 m", "m", "99999999999999d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--at"):
        past.parse(text)


def test_get_scan_and_export_read_the_past(terminal: Terminal) -> None:
    terminal.cluster.put(b"k", b"old")
    at = str(int(terminal.cluster.now()))
    terminal.cluster.put(b"k", b"new")
    assert terminal.run("get", "k").output == b"new\n"
    assert terminal.run("get", "k", "--at", at).output == b"old\n"
    assert terminal.run("scan", "--at", at).output == b"k\told\n"
    assert terminal.run("scan").output == b"k\tnew\n"
    assert b'"old"' in terminal.run("export", "--at", at).output
    assert b'"new"' in terminal.run("export").output


def test_a_time_in_the_future_is_refused(terminal: Terminal) -> None:
    outcome = terminal.run("get", "k", "--at", "2100-01-01T00:00:00Z")
    assert outcome.exit_code == 4
    assert "the future cannot be read" in outcome.notes
    assert terminal.run("get", "k", "--at", "soon").exit_code == 2


def test_status_tells_which_past_is_kept_readable_and_by_whom(terminal: Terminal) -> None:
    soon = Timestamp(terminal.cluster.now() << 1)
    stored = Protection(Timestamp(1_700_000_000_000_000 << 12), soon, owner="the nightly backup")
    over = Protection(Timestamp(1), Timestamp(1), owner="somebody who vanished")
    for number, each in enumerate((stored, over)):
        key = keys.protection_key(bytes([number]) * 16)
        terminal.cluster.versions[key] = [(Timestamp(1), protection.pack(each))]
    outcome = terminal.run("status")
    assert "2023-11-14 22:13:20.000000Z is kept readable by the nightly backup\n" in outcome.text
    assert "vanished" not in outcome.text
    told = terminal.run("status", "--json").json["protections"]
    assert [each["owner"] for each in told] == ["the nightly backup"]


def test_status_tells_why_garbage_is_not_collected(terminal: Terminal) -> None:
    status = {"node_id": 2, "garbage": {"ttl_s": 3600.0, "problem": "r7: nobody answers"}}
    terminal.cluster.node_statuses[NodeId(2)] = status
    told = terminal.run("status").text
    assert "n2: garbage cannot be collected: r7: nobody answers\n" in told
