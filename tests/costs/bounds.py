"""What operations may cost: bounds.toml, and how a measurement is held against it.

For each operation and kind of cost the file has what was measured when the bound was set, and the
bound, a quarter above; and how the calls spread over the packages then, which has no bounds but
tells where something grew.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.costs.counting import Function
from tests.costs.operations import OPERATIONS, Measured

FILE = Path(__file__).parent / "bounds.toml"
ROOM = 1.25
LOOSE = 3
"""A bound so many times as high as what is measured guards nothing any more."""
FUNCTIONS_SHOWN = 15

_HEADER = """\
# What operations cost, as `python -m tests.costs --write` has measured it, and what they may cost
# at most. Of all nodes of a cluster of three and the client together, for one operation: calls of
# functions of the product, and of builtin functions by these; turns, syncs, frames between nodes;
# reads of engines, writes to them, and bytes. Where a name begins with client there is only that.
"""


class Bound(msgspec.Struct, frozen=True):
    """What a kind of cost was, and what it may be."""

    measured: float
    bound: float


class Bounds(msgspec.Struct, frozen=True):
    """Of one operation."""

    costs: dict[str, Bound]
    calls_by_package: dict[str, float]

    def broken(self, measured: Measured) -> list[str]:
        """Return what is above its bound, or so far below that the bound is of no use."""
        told: list[str] = []
        for kind, cost in _costs(measured).items():
            limit = self.costs.get(kind, Bound(0.0, 0.0))
            if cost > limit.bound:
                told.append(f"{kind}: {cost:g}, at most {limit.bound:g}; was {limit.measured:g}")
            elif cost * LOOSE < limit.bound:
                told.append(f"{kind}: {cost:g}, which is so far below {limit.bound:g}: lower it")
        return told

    def grown(self, measured: Measured) -> Iterator[str]:
        """Yield the packages of which more functions are called than when the bounds were set."""
        for package, calls in measured.calls_by_package().items():
            before = self.calls_by_package.get(package, 0.0)
            if calls > before:
                yield f"{package}: {calls:g} calls; were {before:g}"


def read() -> dict[str, Bounds]:
    """Return the bounds of all operations."""
    return msgspec.toml.decode(FILE.read_bytes(), type=dict[str, Bounds])


def write(measured: dict[str, Measured]) -> None:
    """Take what was measured for all operations as what they cost from now on."""
    FILE.write_text("\n".join((_HEADER, *(_section(*item) for item in measured.items()))))


def _section(name: str, measured: Measured) -> str:
    lines = [f"[{name}.costs] # {OPERATIONS[name].about}"]
    for kind, cost in _costs(measured).items():
        lines.append(f"{kind} = {{ measured = {cost:g}, bound = {_bound(cost):g} }}")
    lines.append(f"[{name}.calls_by_package]")
    lines += [f"{package} = {calls:g}" for package, calls in measured.calls_by_package().items()]
    return "\n".join(lines) + "\n"


def _costs(measured: Measured) -> dict[str, float]:
    """Return the kinds of cost that there are."""
    costs: dict[str, float] = msgspec.structs.asdict(measured.cost)
    return {kind: cost for kind, cost in costs.items() if cost}


def _bound(cost: float) -> float:
    return float(f"{cost * ROOM:.3g}")


def explanation(name: str, bounds: Bounds, measured: Measured) -> str:
    """Return what to tell who has made an operation more expensive."""
    lines = [
        f"{name} ({OPERATIONS[name].about}) does not keep its bounds in tests/costs/bounds.toml:",
        *(f"  {line}" for line in bounds.broken(measured)),
        "grown since they were set:",
        *(f"  {line}" for line in bounds.grown(measured)),
        "called most:",
        *(f"  {line}" for line in most_called(measured, FUNCTIONS_SHOWN)),
        f"`python -m tests.costs {name}` shows more of this. If the operation is worth its cost,",
        "`python -m tests.costs --write` sets new bounds.",
    ]
    return "\n".join(lines)


def most_called(measured: Measured, limit: int) -> Iterator[str]:
    """Yield the functions that one operation calls most, with how often they call builtin ones."""
    builtin_calls = measured.functions.builtin_calls

    def first(item: tuple[Function, int]) -> tuple[int, Function]:
        return -item[1], item[0]

    for function, calls in sorted(measured.functions.calls.items(), key=first)[:limit]:
        each = builtin_calls.get(function, 0) / measured.count
        yield (
            f"{calls / measured.count:8.2f} times, {each:8.2f} builtin calls  "
            f"{function.name} ({function.file}:{function.line})"
        )
