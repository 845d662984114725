"""Operations cost what they did when their bounds were set, or little more. No times."""

from pathlib import Path

import msgspec
import pytest

from multiraft.model import hlc
from tests.costs import bounds, operations
from tests.costs.bounds import Bound, Bounds
from tests.costs.counting import CallCounter, Calls, Function
from tests.costs.operations import OPERATIONS, Cost, Measured

COST = Cost(100.0, 50.0, 1.0, 1.0, 2.0, 3.0, 2.0, 500.0)
SOME = Measured(
    COST,
    Calls(
        {Function("raft/core.py", 5, "RaftCore.step"): 600, Function("ids.py", 1, "show"): 400},
        {Function("raft/core.py", 5, "RaftCore.step"): 500},
    ),
    10,
)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_its_bounds(name: str) -> None:
    measured = operations.measure(OPERATIONS[name])
    limits = bounds.read()[name]
    if limits.broken(measured):
        pytest.fail(bounds.explanation(name, limits, measured), pytrace=False)


def test_an_operation_costs_the_same_each_time() -> None:
    operation = OPERATIONS["put_of_64"]
    assert operations.measure(operation) == operations.measure(operation)


def test_every_operation_has_bounds_a_quarter_above_what_was_measured() -> None:
    found = bounds.read()
    assert list(found) == list(OPERATIONS)
    for limits in found.values():
        for limit in limits.costs.values():
            assert limit.bound == pytest.approx(limit.measured * bounds.ROOM, rel=0.01)


def test_what_has_grown_is_told_with_what_it_was() -> None:
    limits = Bounds(
        {
            "calls": Bound(70.0, 90.0),
            "builtin_calls": Bound(130.0, 160.0),
            "turns": Bound(0.8, 1.0),
            "syncs": Bound(0.8, 1.0),
            "frames": Bound(1.6, 2.0),
            "engine_reads": Bound(3.0, 3.5),
            "engine_bytes": Bound(400.0, 500.0),
        },
        {"raft": 59.5, "ids": 40.0},
    )
    assert limits.broken(SOME) == [
        "calls: 100, at most 90; was 70",
        "builtin_calls: 50, which is so far below 160: lower it",
        "engine_writes: 2, at most 0; was 0",
    ]
    told = bounds.explanation("put", limits, SOME)
    assert "  raft: 60 calls; were 59.5\n" in told
    assert "  ids" not in told.partition("called most")[0]
    assert "60.00 times,    50.00 builtin calls  RaftCore.step (raft/core.py:5)\n" in told
    assert "python -m tests.costs put" in told


def test_bounds_that_are_written_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "FILE", tmp_path / "bounds.toml")
    bounds.write({"put": SOME})
    [(name, limits)] = bounds.read().items()
    assert (name, limits.broken(SOME)) == ("put", [])
    assert limits.costs["calls"] == Bound(100.0, 125.0)
    assert limits.calls_by_package == {"raft": 60.0, "ids": 40.0}
    dearer = msgspec.structs.replace(SOME, cost=msgspec.structs.replace(COST, frames=2.6))
    assert limits.broken(dearer) == ["frames: 2.6, at most 2.5; was 2"]


def test_only_what_the_product_does_is_counted() -> None:
    counter = CallCounter()
    hlc.to_us(hlc.ZERO)
    counter.start()
    hlc.to_us(hlc.ZERO)
    sorted([3, 1, 2])
    counter.stop()
    hlc.to_us(hlc.ZERO)
    counted = counter.counted()
    assert [(f.package, f.name, n) for f, n in counted.calls.items()] == [("model", "to_us", 1)]
    assert counted.builtin_calls == {}
