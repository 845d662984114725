"""The picture of a run: throughput against callers, one panel for each operation."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare.peer import FORMS, WRITES_AND_READS, Operation
from bench.compare.records import Record
from bench.compare.series import Series, series_of

NEEDS = "matplotlib (PyPI)"
FORMATS = ("png", "svg")
_COLUMNS_MAX = 2
_PANEL_INCHES = (5.6, 3.6)
_PNG_DOTS_PER_INCH = 150


def missing() -> str | None:
    """Return what has to be installed before there can be a picture; None if nothing."""
    return None if importlib.util.find_spec("matplotlib") else NEEDS


def draw(records: Sequence[Record], directory: Path) -> list[Path]:
    """Write the picture in every format, and return the files; none if there is nothing to show.

    A point is the median of the rounds, and the bar through it reaches from the least to the most.
    """
    from matplotlib.figure import Figure

    found = [each for each in series_of(records) if each.operation in WRITES_AND_READS]
    operations = [each for each in Operation if each in {one.operation for one in found}]
    if not operations:
        return []
    colours = {peer: f"C{n}" for n, peer in enumerate(dict.fromkeys(each.peer for each in found))}
    columns = min(_COLUMNS_MAX, len(operations))
    rows = -(-len(operations) // columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(operations) :]:
        panel.set_axis_off()
    for operation, panel in zip(operations, panels, strict=False):
        _draw_panel(panel, operation, [s for s in found if s.operation is operation], colours)
    handles: dict[str, Any] = {}
    for panel in panels[: len(operations)]:
        lines, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    files = [directory / f"throughput.{kind}" for kind in FORMATS]
    for file in files:
        figure.savefig(file, dpi=_PNG_DOTS_PER_INCH)
    return files


def _draw_panel(
    panel: Any,  # noqa: ANN401
    operation: Operation,
    found: Sequence[Series],
    colours: dict[str, str],
) -> None:
    labels = {each.peer: each.label for each in found}
    for peer, label in labels.items():
        points = {
            each.callers: rate
            for each in sorted(found, key=lambda each: each.callers)
            if each.peer == peer and (rate := each.rate()) is not None
        }
        medians = [each.median for each in points.values()]
        below = [each.median - each.least for each in points.values()]
        above = [each.most - each.median for each in points.values()]
        panel.errorbar(
            list(points),
            medians,
            yerr=(below, above),
            label=label,
            color=colours[peer],
            marker="o",
            markersize=4,
            capsize=3,
        )
    form = FORMS[operation]
    ticks = sorted({each.callers for each in found})
    panel.set_title(form.title)
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.set_xlabel("callers")
    panel.set_ylabel(form.unit)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.grid(alpha=0.3)
