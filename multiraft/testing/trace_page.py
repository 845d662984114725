"""A simulated run as one page to look at: a timeline to step through and to search.

Purpose
    Write a `Trace` whose events were kept as a single HTML file. It opens from disk in any browser
    and needs nothing else; trace_page.html is the page, and says how it is used.
Invariants
    - All events are in the page, whatever their keys and texts hold: bytes that are no UTF-8 are
      shown as escapes, and nothing in them can end the script element they stand in.
Format
    The page's element `data` holds JSON: `kinds` (kind to field names), `events` as
    [t_us, node, [kind, field, ...]], `nodes`, `marks` as {text, operations}, `title`, `verdict`,
    `is_failed`.
"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from multiraft.sim.trace import KINDS, WORLD, Trace

TEMPLATE = "trace_page.html"
_PLACE = "__DATA__"


class Mark(msgspec.Struct, frozen=True):
    """An anomaly: what a checker says, and the calls that show it, as `Trace.invoked` numbers."""

    text: str
    operations: tuple[int, ...] = ()


def write(
    path: Path,
    trace: Trace,
    title: str,
    verdict_summary: str,
    *,
    is_failed: bool = False,
    marks: Sequence[Mark] = (),
) -> None:
    """Write the page to `path`, over what is there. The trace must have kept its events.

    A run may have failed without any violation or anomaly: too much was held at its end, say.
    `marks` are listed with the violations that the trace holds. Raises OSError.
    """
    assert trace.keeps, "the trace kept its events"
    data = {
        "title": title,
        "verdict": verdict_summary,
        "is_failed": is_failed,
        "kinds": {_tag(kind): list(kind.__struct_fields__) for kind in KINDS},
        "nodes": sorted({event.node for event in trace.events} - {WORLD}),
        "events": [_plain(msgspec.structs.astuple(event)) for event in trace.events],
        "marks": [{"text": mark.text, "operations": mark.operations} for mark in marks],
    }
    page = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    # "<" stands in strings only; without it, neither </script> nor <!-- can be in them.
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    path.write_text(page.replace(_PLACE, text), encoding="utf-8")


def _tag(kind: type[msgspec.Struct]) -> str:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str), f"{kind.__name__} has a name as its tag"
    return tag


def _plain(value: object) -> object:
    """Return what JSON can hold: bytes as text, structs as their tag and fields."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, msgspec.Struct):
        return [_tag(type(value)), *map(_plain, msgspec.structs.astuple(value))]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
