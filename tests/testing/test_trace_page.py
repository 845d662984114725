"""The page of a run holds all of it, and needs nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from multiraft.sim.trace import WORLD, Note, RoleChanged, Trace
from multiraft.testing import trace_page
from multiraft.testing.trace_page import Mark
from tests.support import traced_run

HOSTILE = (
    b"quote\"'`",
    b"</script><script>alert(1)</script>",
    b"<!--<script>",
    b"\xff\xfe\x00",
    "\u2028 and \x7f\u00e9",
    b"__DATA__",
    ("a", b"\x80", None, 1.5),
)


class Standstill:
    """A loop whose time stands still."""

    def time(self) -> float:
        return 1.5


def traced(*, keep: bool = True) -> Trace:
    trace = Trace(keep=keep)
    trace.bind(Standstill())
    return trace


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_of_a_run_holds_every_event_of_it(tmp_path: Path) -> None:
    trace = Trace(keep=True)
    traced_run.run(1, trace)
    trace_page.write(tmp_path / "run.html", trace, "a run", "all well")
    data = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert len(data["events"]) == len(trace.events)
    assert [event[0] for event in data["events"]] == [event.t_us for event in trace.events]
    assert data["nodes"] == [1, 2, 3]
    for _, _, (kind, *values) in data["events"]:
        assert len(values) == len(data["kinds"][kind])


def test_events_stand_in_the_page_as_kind_and_fields(tmp_path: Path) -> None:
    trace = traced()
    trace.note(2, RoleChanged(7, 5, "leader"))
    trace_page.write(tmp_path / "p.html", trace, "title", "verdict", marks=[Mark("stale", (3,))])
    data = data_of((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert data["events"] == [[1_500_000, 2, ["role", 7, 5, "leader"]]]
    assert data["kinds"]["role"] == ["range", "term", "role"]
    assert (data["title"], data["verdict"]) == ("title", "verdict")
    assert data["marks"] == [{"text": "stale", "operations": [3]}]


@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
def test_no_key_can_break_the_page(tmp_path: Path, key: bytes | str) -> None:
    trace = traced()
    trace.invoked(1, "put", key)
    trace.note(WORLD, Note(str(key)))
    trace_page.write(tmp_path / "p.html", trace, str(key), str(key))
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2, "the data's and the program's"
    data = data_of(page)
    assert data["title"] == str(key)
    shown = data["events"][0][2][-1]
    assert shown == {
        b"\xff\xfe\x00": "\\xff\\xfe\x00",
        ("a", b"\x80", None, 1.5): ["a", "\\x80", None, 1.5],
    }.get(key, key.decode() if isinstance(key, bytes) and key.isascii() else key)


def test_the_page_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    trace_page.write(tmp_path / "p.html", traced(), "a run", "all well")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    outside = r"https?:|//[a-z]+\.|\bsrc=|<link|@import|url\(|\bfetch\(|XMLHttpRequest|import\("
    assert not re.search(outside, page)


def test_a_trace_that_kept_nothing_has_no_page(tmp_path: Path) -> None:
    trace = traced(keep=False)
    trace.note(WORLD, Note("gone"))
    with pytest.raises(AssertionError, match="kept"):
        trace_page.write(tmp_path / "p.html", trace, "title", "verdict")
