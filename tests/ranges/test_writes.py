"""Evaluation of parts that write, and what another attempt of the same part is answered."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft import errors
from multiraft.client import calls
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, keys
from multiraft.model.descriptor import RangeDescriptor, initial_descriptor
from multiraft.model.requests import (
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    Operation,
    PointOperation,
    Put,
    PutMeta,
    PutResult,
    Result,
)
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader
from multiraft.ranges.commands import writes
from multiraft.ranges.commands.writes import Replay
from tests.support.parts import RESULT_BYTES_MAX, Table, counter, part

ABSENT = GetResult(None, Timestamp(0))

# -- what one operation does -------------------------------------------------------------------


def test_a_put_sets_the_key() -> None:
    table = Table()
    assert table.apply(part(Put(b"k", b"v"))).results == (PutResult(),)
    assert table.get(b"k") == b"v"


def test_a_delete_tells_whether_the_key_was_there() -> None:
    table = Table(k=b"v")
    assert table.apply(part(Delete(b"k"))).results == (DeleteResult(True),)
    assert table.get(b"k") is None
    again = table.apply(part(Delete(b"k"), number=2))
    assert again.results == (DeleteResult(False),)
    assert again.write_set.is_empty, "there was nothing to remove"


@pytest.mark.parametrize(
    ("held", "expected", "value", "result", "holds"),
    [
        (b"a", b"a", b"b", ConditionalPutResult(True), b"b"),
        (b"a", b"a", None, ConditionalPutResult(True), None),
        (b"a", b"x", b"b", ConditionalPutResult(False, b"a"), b"a"),
        (b"a", None, b"b", ConditionalPutResult(False, b"a"), b"a"),
        (None, None, b"b", ConditionalPutResult(True), b"b"),
        (None, None, None, ConditionalPutResult(True), None),
        (None, b"x", b"b", ConditionalPutResult(False, None), None),
        (b"", b"", b"b", ConditionalPutResult(True), b"b"),
        (b"", None, b"b", ConditionalPutResult(False, b""), b""),
        (None, b"", b"b", ConditionalPutResult(False, None), None),
    ],
)
def test_a_conditional_put_writes_only_where_its_condition_holds(
    held: bytes | None,
    expected: bytes | None,
    value: bytes | None,
    result: Result,
    holds: bytes | None,
) -> None:
    table = Table() if held is None else Table(k=held)
    assert table.apply(part(ConditionalPut(b"k", value, expected))).results == (result,)
    assert table.get(b"k") == holds


@pytest.mark.parametrize(
    ("held", "delta", "sum_"),
    [
        (None, 5, 5),
        (None, -5, -5),
        (40, 2, 42),
        (0, 0, 0),
        ((1 << 63) - 2, 1, (1 << 63) - 1),
        (-(1 << 63) + 1, -1, -(1 << 63)),
        (-(1 << 63), (1 << 63) - 1, -1),
        (None, -(1 << 63), -(1 << 63)),
    ],
)
def test_an_increment_adds_up_to_the_edges_of_64_bits(
    held: int | None, delta: int, sum_: int
) -> None:
    table = Table() if held is None else Table(k=counter(held))
    assert table.apply(part(Increment(b"k", delta))).results == (IncrementResult(sum_),)
    assert table.get(b"k") == counter(sum_)


@pytest.mark.parametrize(
    ("held", "delta"),
    [
        (counter((1 << 63) - 1), 1),
        (counter(-(1 << 63)), -1),
        (counter(0), 1 << 63),
        (counter(0), (1 << 64) - 1),
        (counter((1 << 63) - 1), (1 << 63) - 1),
        (b"", 1),
        (b"seven..", 1),
        (b"nine bytes", 1),
    ],
)
def test_an_increment_that_is_impossible_writes_nothing(held: bytes, delta: int) -> None:
    table = Table(k=held)
    evaluation = table.apply(part(Put(b"j", b"v"), Increment(b"k", delta)))
    assert isinstance(evaluation.error, errors.NotAnIntegerError)
    assert evaluation.results == ()
    assert evaluation.write_set.is_empty
    assert table.get(b"k") == held
    assert table.get(b"j") is None


def record(generation: int) -> tuple[RangeDescriptor, PutMeta]:
    base = initial_descriptor(RangeId(7), b"\x10s", b"\x10t", (NodeId(1),))
    descriptor = RangeDescriptor(
        base.range_id, base.start, base.end, generation, base.replicas, base.next_replica_id
    )
    packed = encoding.pack(descriptor)
    return descriptor, PutMeta(keys.meta_key(descriptor.start), packed, generation)


def test_an_addressing_record_is_replaced_only_by_a_later_generation() -> None:
    table = Table()
    held = []
    for number, generation in enumerate((3, 2, 3, 5, 4), start=1):
        _, operation = record(generation)
        evaluation = table.apply(part(operation, number=number))
        assert evaluation.results == (PutResult(),)
        assert evaluation.write_set.is_empty == (generation in (2, 4) or number == 3)
        value = table.get(operation.key)
        assert value is not None
        held.append(encoding.unpack_descriptor(value).generation)
    assert held == [3, 3, 3, 5, 5]


# -- several operations ----------------------------------------------------------------------------


def test_each_operation_of_a_part_sees_what_those_before_it_wrote() -> None:
    table = Table(k=counter(1))
    evaluation = table.apply(
        part(
            Get(b"k"),
            Increment(b"k", 1),
            Increment(b"k", 1),
            Get(b"k"),
            ConditionalPut(b"k", b"x", counter(3)),
            Delete(b"k"),
            Get(b"k"),
            Delete(b"k"),
            ConditionalPut(b"k", b"y", None),
        )
    )
    assert evaluation.results == (
        GetResult(counter(1), Timestamp(10)),
        IncrementResult(2),
        IncrementResult(3),
        GetResult(counter(3), Timestamp(20)),
        ConditionalPutResult(True),
        DeleteResult(True),
        ABSENT,
        DeleteResult(False),
        ConditionalPutResult(True),
    )
    assert table.get(b"k") == b"y"
    assert evaluation.write_set.effects().stats.versions == 1, "one version for each key"


def test_a_part_whose_condition_fails_writes_nothing_and_tells_which_one_it_was() -> None:
    table = Table(a=b"1", b=b"2")
    evaluation = table.apply(
        part(
            Put(b"a", b"x"),
            Get(b"a"),
            ConditionalPut(b"a", b"y", b"x"),
            ConditionalPut(b"b", b"y", b"no"),
            ConditionalPut(b"c", b"y", None),
            Increment(b"n", 1),
        )
    )
    assert evaluation.results == (
        PutResult(),
        GetResult(b"1", Timestamp(10)),
        ConditionalPutResult(True),
        ConditionalPutResult(False, b"2"),
        ConditionalPutResult(True, None),
        PutResult(),
    )
    assert evaluation.error is None
    assert evaluation.write_set.is_empty
    assert [table.get(key) for key in (b"a", b"b", b"c", b"n")] == [b"1", b"2", None, None]


def test_a_condition_that_an_operation_before_it_broke_is_reported_as_failed() -> None:
    table = Table()
    evaluation = table.apply(part(Put(b"k", b"1"), ConditionalPut(b"k", b"2", None)))
    assert evaluation.results == (PutResult(), ConditionalPutResult(False, b"1"))
    assert table.get(b"k") is None


def test_what_is_read_by_one_part_is_bounded() -> None:
    half = bytes(RESULT_BYTES_MAX // 2)
    table = Table(a=half, b=half, c=b"x")
    most = part(Get(b"a"), Get(b"b"), Put(b"d", b"v"))
    assert table.evaluate(most).error is None
    for too_much in (
        part(Get(b"a"), Get(b"b"), Get(b"c"), Put(b"d", b"v")),
        part(ConditionalPut(b"d", b"v", b"no"), *[ConditionalPut(b"a", b"", b"")] * 3),
    ):
        evaluation = table.evaluate(too_much)
        assert isinstance(evaluation.error, errors.BatchTooLargeError)
        assert evaluation.write_set.is_empty


# -- another attempt ---------------------------------------------------------------------------


OTHERS: tuple[Operation, ...] = (Put(b"k", b"other"), Delete(b"k"), Put(b"k", counter(99)))


@pytest.mark.parametrize(
    ("held", "operation", "result"),
    [
        (None, Put(b"k", b"v"), PutResult()),
        (b"old", Put(b"k", b"v"), PutResult()),
        (b"old", Delete(b"k"), DeleteResult(True)),
        (None, ConditionalPut(b"k", b"v", None), ConditionalPutResult(True)),
        (b"old", ConditionalPut(b"k", b"v", b"old"), ConditionalPutResult(True)),
        (b"old", ConditionalPut(b"k", None, b"old"), ConditionalPutResult(True)),
        (None, Increment(b"k", 2), IncrementResult(2)),
        (counter(5), Increment(b"k", 2), IncrementResult(7)),
    ],
)
def test_another_attempt_of_what_was_written_is_told_the_first_outcome(
    held: bytes | None, operation: Operation, result: Result
) -> None:
    table = Table() if held is None else Table(k=held)
    first = part(operation)
    assert table.send(first) == (result,)
    written_at = Timestamp(table.now)
    for number, other in enumerate(OTHERS, start=2):
        for attempt in (1, 2, 3):
            again = part(operation, attempt=attempt)
            assert table.replay(again) == Replay((result,), written_at)
        table.send(part(other, number=number))
    assert table.get(b"k") == counter(99), "what others wrote stays"


@pytest.mark.parametrize(
    ("held", "operation", "result"),
    [
        (None, Delete(b"k"), DeleteResult(False)),
        (b"old", ConditionalPut(b"k", b"v", None), ConditionalPutResult(False, b"old")),
        (None, ConditionalPut(b"k", b"v", b"x"), ConditionalPutResult(False, None)),
        (None, ConditionalPut(b"k", None, None), ConditionalPutResult(True)),
    ],
)
def test_a_later_attempt_that_wrote_nothing_decides_for_the_earlier_one_that_comes_late(
    held: bytes | None, operation: Operation, result: Result
) -> None:
    """S7: attempt 2 is answered, attempt 1 was still on its way."""
    table = Table() if held is None else Table(k=held)
    assert table.send(part(operation, attempt=2)) == (result,)
    table.send(part(Put(b"k", b"x"), number=2))
    assert table.send(part(operation, attempt=1)) == (result,)
    table.send(part(Delete(b"k"), number=3))
    assert table.send(part(operation, attempt=1)) == (result,)
    assert table.get(b"k") is None, "what others did stays"


def test_a_late_attempt_of_an_impossible_increment_is_refused_as_the_later_one_was() -> None:
    table = Table(k=b"text")
    with pytest.raises(errors.NotAnIntegerError):
        table.send(part(Increment(b"k", 1), attempt=2))
    table.send(part(Put(b"k", counter(1)), number=2))
    with pytest.raises(errors.NotAnIntegerError):
        table.send(part(Increment(b"k", 1), attempt=1))
    assert table.get(b"k") == counter(1)


def test_a_first_attempt_that_writes_nothing_leaves_no_trace() -> None:
    table = Table(k=b"v")
    evaluation = table.apply(part(ConditionalPut(b"k", b"x", None)))
    assert evaluation.write_set.is_empty, "an answer that nobody may believe needs no write"


def test_what_is_only_read_gets_no_trace() -> None:
    table = Table(b=b"v")
    for attempt in (1, 2):
        for last in (Put(b"c", b"v"), ConditionalPut(b"c", b"v", b"no")):
            evaluation = table.evaluate(part(Get(b"a"), Get(b"b"), last, attempt=attempt))
            assert not evaluation.write_set.writes(b"a")
            assert not evaluation.write_set.writes(b"b")


class CountingReader(EngineReader):
    """Counts searches through versions."""

    __slots__ = ("searches",)

    def __init__(self, table: Table) -> None:
        super().__init__(table.engine)
        self.searches = 0

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self.searches += 1
        return super().scan(start, end, reverse=reverse)


def test_another_attempt_is_found_on_a_hot_key_without_a_search_when_its_time_is_known() -> None:
    """L7: 256 callers on one key, each of whose requests finds the versions of all others."""
    table = Table()
    table.send(part(Increment(b"k", 1)))
    applied_at = Timestamp(table.now)
    for number in range(2, 257):
        table.send(part(Increment(b"k", 1), number=number))
    reader = CountingReader(table)
    again = part(Increment(b"k", 1), attempt=2)
    found = Replay((IncrementResult(1),), applied_at)
    assert writes.replay(reader, again, RESULT_BYTES_MAX, applied_at) == found
    assert reader.searches == 0
    assert writes.replay(reader, again, RESULT_BYTES_MAX) == found
    assert reader.searches == 1


def test_the_attempt_of_another_request_finds_nothing() -> None:
    table = Table()
    table.send(part(Increment(b"k", 1)))
    assert table.replay(part(Increment(b"k", 1), number=2)) is None


def test_a_trace_that_is_older_than_the_request_is_not_looked_for() -> None:
    table = Table()
    table.send(part(Increment(b"k", 1)))
    assert table.replay(part(Increment(b"k", 1), issued_at=table.now - 1)) is not None
    assert table.replay(part(Increment(b"k", 1), issued_at=table.now)) is None


# -- another attempt after a split --------------------------------------------------------------


def test_both_increments_of_one_key_are_applied_once_each() -> None:
    """S8: the second one must not take the ID that the first one left for its own."""
    table = Table()
    twice = part(Increment(b"k", 1), Increment(b"k", 1))
    assert table.send(twice) == (IncrementResult(1), IncrementResult(2))
    table.send(part(Increment(b"k", 10), number=2))
    assert table.send(twice) == (IncrementResult(1), IncrementResult(2))
    assert table.get(b"k") == counter(12)


def test_the_half_that_needed_no_change_is_not_carried_out_after_a_split() -> None:
    """S8: [delete a, put z] found no a. A split; another client puts a; then the right answer."""
    table = Table()
    table.send(part(Delete(b"a"), Put(b"z", b"1")))
    table.send(part(Put(b"a", b"theirs"), number=2))
    assert table.send(part(Delete(b"a"), attempt=2)) == (DeleteResult(False),)
    assert table.send(part(Put(b"z", b"1"), attempt=2)) == (PutResult(),)
    assert table.get(b"a") == b"theirs"


def test_a_condition_that_held_without_writing_still_holds_after_a_split() -> None:
    table = Table()
    table.send(part(ConditionalPut(b"a", None, None), Put(b"z", b"1")))
    table.send(part(Put(b"a", b"theirs"), number=2))
    half = part(ConditionalPut(b"a", None, None), attempt=2)
    assert table.send(half) == (ConditionalPutResult(True),)


def test_a_half_whose_other_half_failed_is_not_told_that_it_was_written() -> None:
    """The whole wrote nothing and left that; cut off from the condition, z is a part of its own."""
    table = Table(a=b"1")
    whole = part(ConditionalPut(b"a", b"2", b"no"), ConditionalPut(b"z", b"1", None), attempt=2)
    assert table.send(whole)[0] == ConditionalPutResult(False, b"1")
    half = part(ConditionalPut(b"z", b"1", None), attempt=3)
    assert table.send(half) == (ConditionalPutResult(True),)
    assert table.get(b"z") == b"1", "what is reported as written is there"
    assert table.send(half) == (ConditionalPutResult(True),)
    assert table.send(part(ConditionalPut(b"a", b"2", b"no"), attempt=3)) == (
        ConditionalPutResult(False, b"1"),
    )


# -- any history --------------------------------------------------------------------------------

KEYS = (b"a", b"b", b"c")
some_keys = st.sampled_from(KEYS)
some_values = st.sampled_from([b"", b"x", counter(0), counter((1 << 63) - 1)])
some_operations = st.one_of(
    st.builds(Get, some_keys),
    st.builds(Put, some_keys, some_values),
    st.builds(Delete, some_keys),
    st.builds(ConditionalPut, some_keys, st.none() | some_values, st.none() | some_values),
    st.builds(Increment, some_keys, st.sampled_from([1, -1, 5])),
)
some_parts = st.lists(
    st.tuples(st.lists(some_operations, min_size=1, max_size=4), st.sampled_from([1, 2])),
    min_size=1,
    max_size=8,
)


def expect(held: dict[bytes, bytes], operations: Sequence[Operation]) -> list[Result] | None:
    """Carry operations out on a dict in the obvious way; None: one of them is impossible."""
    results: list[Result] = []
    for operation in operations:
        assert isinstance(operation, PointOperation), "only those are drawn"
        key = operation.key
        actual = held.get(key)
        if isinstance(operation, Get):
            results.append(GetResult(actual, Timestamp(0)))
        elif isinstance(operation, Put):
            held[key] = operation.value
            results.append(PutResult())
        elif isinstance(operation, Delete):
            results.append(DeleteResult(held.pop(key, None) is not None))
        elif isinstance(operation, ConditionalPut):
            if actual != operation.expected:
                return None
            held.pop(key, None)
            if operation.value is not None:
                held[key] = operation.value
            results.append(ConditionalPutResult(True))
        elif isinstance(operation, Increment):
            number = 0 if actual is None else encoding.unpack_counter(actual)
            if number is None or number + operation.delta > encoding.COUNTER_MAX:
                return None
            held[key] = counter(number + operation.delta)
            results.append(IncrementResult(number + operation.delta))
    return results


def without_times(results: Sequence[Result]) -> list[Result]:
    return [GetResult(r.value, Timestamp(0)) if isinstance(r, GetResult) else r for r in results]


def halves(request: BatchRequest, boundary: bytes) -> list[tuple[list[int], BatchRequest]]:
    """Cut a part as the router does when its range was split; drop halves that only read."""
    cut = []
    for right in (False, True):
        indices = [
            index
            for index, operation in enumerate(request.operations)
            if isinstance(operation, PointOperation) and (operation.key >= boundary) is right
        ]
        operations = [request.operations[index] for index in indices]
        if any(type(operation) is not Get for operation in operations):
            cut.append((indices, part(*operations, number=number_of(request), attempt=9)))
    return cut


def number_of(request: BatchRequest) -> int:
    return int.from_bytes(request.id, "big")


@given(some_parts)
@settings(max_examples=150, deadline=None)
def test_evaluation_does_to_the_table_what_it_does_to_a_dict(
    history: list[tuple[list[Operation], int]],
) -> None:
    table = Table()
    held: dict[bytes, bytes] = {}
    for number, (operations, attempt) in enumerate(history, start=1):
        if all(type(operation) is Get for operation in operations):
            continue
        evaluation = table.apply(part(*operations, number=number, attempt=attempt))
        after = dict(held)
        expected = expect(after, operations)
        if expected is None:
            assert evaluation.error is not None or not calls.wrote(
                tuple(operations), evaluation.results
            )
        else:
            held = after
            assert without_times(evaluation.results) == expected
        assert {key: value for key in KEYS if (value := table.get(key)) is not None} == held


@given(some_parts, st.lists(st.tuples(some_keys, some_values), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_the_fast_path_of_puts_comes_to_what_the_others_do(
    history: list[tuple[list[Operation], int]], pairs: list[tuple[bytes, bytes]]
) -> None:
    table = Table()
    for number, (operations, attempt) in enumerate(history, start=1):
        if any(type(operation) is not Get for operation in operations):
            table.apply(part(*operations, number=number, attempt=attempt))
    puts = part(*(Put(key, value) for key, value in pairs), number=99)
    arguments = (table.reader, puts, Timestamp(table.now + 10), RESULT_BYTES_MAX)
    fast, slow = writes.evaluate(*arguments), writes.evaluate_any(*arguments)
    sets_each_once = len(dict(pairs)) == len(pairs)
    assert (type(fast.write_set) is not type(slow.write_set)) is sets_each_once
    assert (fast.results, fast.error) == (slow.results, slow.error)
    assert fast.write_set.effects() == slow.write_set.effects()
    assert list(fast.write_set.written) == list(slow.write_set.written)
    assert fast.write_set.is_empty is slow.write_set.is_empty is False
    for each in (*KEYS, b"", b"d"):
        assert fast.write_set.stats_from(each) == slow.write_set.stats_from(each)
        assert fast.write_set.writes(each) is slow.write_set.writes(each)


@given(some_parts, st.sampled_from([b"b", b"c"]))
@settings(max_examples=200, deadline=None)
def test_replays_give_first_results_whole_and_in_halves(
    history: list[tuple[list[Operation], int]], boundary: bytes
) -> None:
    table = Table()
    done = []
    for number, (operations, attempt) in enumerate(history, start=1):
        if any(type(operation) is not Get for operation in operations):
            request = part(*operations, number=number, attempt=attempt)
            done.append((request, table.apply(request)))
    for request, first in done:
        if first.write_set.is_empty:
            assert table.replay(request) is None, "it left no trace"
            continue
        if first.error is not None:
            with pytest.raises(type(first.error)):
                table.replay(request)
        else:
            again = table.replay(request)
            assert again is not None
            assert again.results == first.results
        wrote = first.error is None and calls.wrote(request.operations, first.results)
        for indices, half in halves(request, boundary):
            try:
                replay = table.replay(half)
            except errors.RequestError:
                assert not wrote, "what was behind the failed condition may be impossible"
                continue
            if replay is None:
                assert not wrote, "no half of what was written is evaluated again"
            elif wrote:
                assert list(replay.results) == [first.results[index] for index in indices]
            else:
                assert not calls.wrote(half.operations, replay.results), "nothing was written"


@given(some_parts)
@settings(max_examples=100, deadline=None)
def test_a_part_leaves_its_trace_on_every_key_that_it_could_change(
    history: list[tuple[list[Operation], int]],
) -> None:
    table = Table()
    for number, (operations, attempt) in enumerate(history, start=1):
        if all(type(operation) is Get for operation in operations):
            continue
        request = part(*operations, number=number, attempt=attempt)
        if table.apply(request).write_set.is_empty:
            assert attempt == 1, "only a first attempt may leave nothing"
            continue
        for operation in operations:
            if isinstance(operation, PointOperation) and type(operation) is not Get:
                trace = reads.find_write(table.reader, operation.key, request.id, Timestamp(0))
                assert trace is not None
                assert trace.timestamp == table.now
