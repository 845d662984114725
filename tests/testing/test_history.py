"""Recording what clients saw, and keeping it in files."""

import asyncio
import contextlib
import io
import os
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft import errors
from multiraft.testing import history_file
from multiraft.testing.history import History, Operation, frozen, outcome_of
from multiraft.testing.history_file import BadHistoryError


def test_operations_are_noted_with_moments_and_answers() -> None:
    moments = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    history = History(lambda: next(moments))
    put = history.invoke("a", "put", key=b"x", argument=[1, [b"y"]])
    get = history.invoke("b", "get", key=b"x")
    lost = history.invoke("c", "put", key=b"x", argument=2)
    history.ok(get, bytearray(b"z"))
    history.failed(put, errors.RequestError("no"))
    assert len(history) == 3
    assert list(history.open()) == [lost]
    assert list(history) == [
        Operation(0, "a", "put", 1.0, b"x", (1, (b"y",)), None, 5.0, "failed", "RequestError: no"),
        Operation(1, "b", "get", 2.0, b"x", None, b"z", 4.0, "ok"),
        Operation(2, "c", "put", 3.0, b"x", 2),
    ]
    assert lost.deadline == float("inf")


def test_moments_of_a_clock_that_stands_still_or_goes_back_keep_their_order() -> None:
    moments = iter([5.0, 5.0, 3.0, 6.0])
    history = History(lambda: next(moments))
    first = history.invoke(1, "get")
    history.ok(first)
    second = history.invoke(1, "get")
    history.ok(second)
    a, b = history
    assert a.completed is not None
    assert 5.0 == a.invoked < a.completed < b.invoked < 5.000001
    assert b.completed == 6.0


def test_an_operation_ends_once() -> None:
    history = History(lambda: 0.0)
    operation = history.invoke(1, "get")
    history.unknown(operation, "no answer")
    with pytest.raises(AssertionError, match="has ended"):
        history.ok(operation)


@pytest.mark.parametrize("value", [{}, object(), float("nan"), float("inf"), [{1}]])
def test_what_no_file_can_hold_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="history cannot hold"):
        History(lambda: 0.0).invoke(1, "put", argument=value)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.OutcomeUnknownError(reason=""), "unknown"),
        (errors.DeadlineExceededError(deadline_s=1.0, last_error=""), "failed"),
        (errors.DiskFullError(path="", free_bytes=0, reserve_bytes=0), "failed"),
        (errors.TransactionRetryError(reason=""), "failed"),
        (errors.InvalidSpanError(start="b", end="a"), "failed"),
        (errors.NodeUnavailableError(target="", reason=""), "unknown"),
        (errors.StoreFailedError(reason=""), "unknown"),
        (errors.StoppedError(what=""), "unknown"),
        (TimeoutError(), "unknown"),
        (asyncio.CancelledError(), "unknown"),
        (ConnectionResetError(), "unknown"),
    ],
)
def test_an_error_is_failed_only_if_it_promises_so(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome


async def _answer(value: object) -> object:
    return value


async def _raise(error: BaseException) -> object:
    raise error


def _recorded(function: str, call: Awaitable[object]) -> Operation:
    history = History(lambda: 0.0)

    async def main() -> None:
        await history.record(1, function, "x", 5, call, result_of=lambda found: (found,))

    with contextlib.suppress(Exception, asyncio.CancelledError):
        asyncio.run(main())
    (operation,) = history
    return operation


def test_record_notes_answers_and_errors() -> None:
    answered = _recorded("get", _answer(7))
    assert (answered.outcome, answered.result) == ("ok", (7,))
    refused = _recorded("put", _raise(errors.RequestError("too long")))
    assert (refused.outcome, refused.error) == ("failed", "RequestError: too long")
    cancelled = _recorded("put", _raise(asyncio.CancelledError()))
    assert cancelled.outcome == "unknown"


def test_a_condition_that_does_not_hold_is_an_answer_of_cas_only() -> None:
    error = errors.ConditionFailedError(key="x", actual=None)
    compared = _recorded("cas", _raise(error))
    assert (compared.outcome, compared.result) == ("ok", False)
    assert _recorded("txn", _raise(error)).outcome == "failed"


def test_threads_may_note_at_once() -> None:
    def now() -> float:
        os.sched_yield()  # In the middle of a note.
        return 0.0

    history = History(now)

    def client(number: int) -> None:
        for value in range(100):
            history.ok(history.invoke(number, "put", argument=value))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(client, range(4)))
    assert [operation.id for operation in history] == list(range(400))
    moments = [moment for o in history for moment in (o.invoked, o.completed)]
    assert len(set(moments)) == len(moments)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda values: st.lists(values, max_size=3),
    max_leaves=5,
)


@given(key=VALUES, argument=VALUES, result=VALUES)
def test_what_is_saved_loads_equal(key: object, argument: object, result: object) -> None:
    operation = Operation(
        3, "p", "put", 0.5, frozen(key), frozen(argument), frozen(result), 1.5, "ok"
    )
    assert history_file.decode(history_file.encode(operation)) == operation


def test_files_are_written_and_read(tmp_path: Path) -> None:
    operations = (
        Operation(0, 1, "put", 0.0, b"\xff", "v", None, 1.0, "ok"),
        Operation(1, "b", "put", 2.0, error="TimeoutError: "),
    )
    file = tmp_path / "history.jsonl"
    history_file.save(file, operations)
    assert file.read_bytes().splitlines()[1] == (
        b'{"id":1,"process":"b","function":"put","invoked":2.0,"outcome":"unknown",'
        b'"error":"TimeoutError: "}'
    )
    assert history_file.load(file) == operations


def test_a_number_too_large_for_json_is_refused() -> None:
    with pytest.raises(BadHistoryError, match="operation 0 cannot be written"):
        history_file.encode(Operation(0, 1, "put", 0.0, argument=2**70))


@pytest.mark.parametrize(
    "digits", [b"18446744073709551616", b"-9223372036854775809", b"1" + 300 * b"0"]
)
def test_a_number_that_a_file_would_round_is_refused(digits: bytes) -> None:
    line = GOOD.replace(b"}", b',"result":[%s]}' % digits)
    with pytest.raises(BadHistoryError, match=r"is no integer of 64 bits"):
        history_file.decode(line)


def test_large_numbers_with_fractions_and_long_texts_are_none_that_is_rounded() -> None:
    result = (2**64 - 1, -(2**63), 1e300, 0.1, "9" * 30, bytes.fromhex("99" * 20))
    operation = Operation(0, 1, "get", 0.0, result=result, completed=1.0, outcome="ok")
    assert history_file.decode(history_file.encode(operation)) == operation


def test_arrays_are_nested_only_so_deep() -> None:
    nested: Any = ()
    for _ in range(history_file.NESTING_MAX - 1):
        nested = (nested,)
    deepest = Operation(0, 1, "put", 0.0, argument=nested)
    assert history_file.decode(history_file.encode(deepest)) == deepest
    with pytest.raises(BadHistoryError, match="operation 0 cannot be written: more than 100"):
        history_file.encode(Operation(0, 1, "put", 0.0, argument=(nested,)))
    arrays = b"[" * 900 + b"]" * 900
    with pytest.raises(BadHistoryError, match="more than 100 arrays stand in one another"):
        history_file.decode(GOOD.replace(b"}", b',"result":' + arrays + b"}"))


GOOD = b'{"id":0,"process":1,"function":"get","invoked":0}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON: unexpected end of data, at column 2"),
        (b"[]", "not an object"),
        (b"{}", "missing required field `id`"),
        (GOOD.replace(b'"id":0', b'"id":"0"'), "Expected `int`"),
        (GOOD.replace(b"}", b',"odd":1}'), "no operation has a member 'odd'"),
        (GOOD.replace(b"}", b',"outcome":"fine"}'), "Invalid enum value"),
        (GOOD.replace(b"}", b',"outcome":"ok"}'), "`completed` is missing"),
        (GOOD.replace(b"}", b',"completed":-1}'), "lies before"),
        (GOOD.replace(b"}", b',"key":{"hex":"0g"}}'), "`key`: non-hexadecimal"),
        (GOOD.replace(b"}", b',"key":[{"a":1}]}'), "`key` holds an object"),
        (GOOD, "the id 0 is that of line 1"),
    ],
)
def test_a_broken_line_is_told_by_number_and_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadHistoryError, match=r"^line 3: ") as caught:
        history_file.read(io.BytesIO(GOOD + b"\n" + line))
    assert reason in str(caught.value)
