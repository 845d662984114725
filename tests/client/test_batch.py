import pytest

from multiraft import config, errors
from multiraft.client import batch
from multiraft.client.batch import ANY, Batch, Builder
from multiraft.ids import Timestamp
from multiraft.model import requests
from multiraft.model.requests import (
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    Get,
    Increment,
    Operation,
    Put,
)

LIMITS = config.LimitsConfig(
    key_bytes_max=4, value_bytes_max=8, batch_operations_max=3, batch_bytes_max=20
)


def operations(given: Batch) -> tuple[Operation, ...]:
    return given.operations(Builder(LIMITS), LIMITS)


def test_methods_make_operations_in_order() -> None:
    assert operations(Batch().put(b"a", b"1").get(b"").delete(b"b")) == (
        Put(b"\x10a", b"1"),
        Get(b"\x10"),
        Delete(b"\x10b"),
    )
    assert operations(
        Batch().increment(b"n", -2).put(b"a", b"1", expected=None).delete(b"b", expected=b"2")
    ) == (
        Increment(b"\x10n", -2),
        ConditionalPut(b"\x10a", b"1", None),
        ConditionalPut(b"\x10b", None, b"2"),
    )


def test_limits_are_inclusive() -> None:
    assert operations(Batch().put(b"kkkk", b"v" * 8)) == (Put(b"\x10kkkk", b"v" * 8),)


@pytest.mark.parametrize(
    ("given", "expected", "message"),
    [
        (Batch().get(b"kkkkk"), errors.KeyTooLargeError, "has 5 bytes; the limit is 4"),
        (Batch().put(b"k", b"v" * 9), errors.ValueTooLargeError, "has 9 bytes; the limit is 8"),
        (
            Batch().put(b"k", b"v", expected=b"v" * 9),
            errors.ValueTooLargeError,
            "has 9 bytes; the limit is 8",
        ),
        (
            Batch().get(b"a").get(b"b").get(b"c").get(b"d"),
            errors.BatchTooLargeError,
            "4 operations; the limit is 3",
        ),
        (
            Batch().put(b"a", b"v" * 8).put(b"b", b"v" * 8).get(b"c"),
            errors.BatchTooLargeError,
            "22 bytes; the limit is 20",
        ),
        (Batch().get("text"), errors.RequestError, r"a key must be bytes, not str; .*encode"),  # type: ignore[arg-type]
        (Batch().put(b"k", None), errors.RequestError, "a value must be bytes, not NoneType"),  # type: ignore[arg-type]
        (
            Batch().put(b"k", b"v", expected="old"),  # type: ignore[arg-type]
            errors.RequestError,
            "the expected value must be bytes, not str",
        ),
        (Batch().increment(b"k", 1.5), errors.RequestError, "delta must be an int"),  # type: ignore[arg-type]
        (Batch().increment(b"k", 1 << 63), errors.RequestError, "does not fit in 64 signed bits"),
    ],
)
def test_what_can_never_be_accepted_is_refused_with_the_reason(
    given: Batch, expected: type[errors.MultiraftError], message: str
) -> None:
    with pytest.raises(expected, match=message):
        operations(given)


def test_any_is_told_from_absent() -> None:
    assert operations(Batch().put(b"a", b"1", expected=ANY)) == (Put(b"\x10a", b"1"),)
    assert repr(ANY) == "ANY"


def test_answers_are_what_applications_expect() -> None:
    key = b"\x10k"
    assert [
        batch.answer(Get(key), requests.GetResult(b"v", Timestamp(1))),
        batch.answer(Put(key, b"v"), requests.PutResult()),
        batch.answer(Delete(key), requests.DeleteResult(True)),
        batch.answer(Increment(key, 1), requests.IncrementResult(7)),
        batch.answer(ConditionalPut(key, b"v", None), ConditionalPutResult(True)),
        batch.answer(ConditionalPut(key, None, b"v"), ConditionalPutResult(True)),
        batch.answer(ConditionalPut(key, None, None), ConditionalPutResult(True)),
    ] == [b"v", None, True, 7, None, True, False]


def test_a_failed_condition_tells_what_the_key_held() -> None:
    with pytest.raises(errors.ConditionFailedError, match="/plain/k") as caught:
        batch.answer(ConditionalPut(b"\x10k", b"v", None), ConditionalPutResult(False, b"old"))
    assert caught.value.actual == b"old"


def test_a_result_of_another_kind_is_a_protocol_error() -> None:
    with pytest.raises(errors.ProtocolError, match="ScanResult"):
        batch.answer(Get(b"\x10k"), requests.ScanResult((), None))


def test_cutting_keeps_order_and_both_limits() -> None:
    puts = [Put(b"k", b"v" * size) for size in (1, 1, 1, 50, 9, 1)]
    pieces = list(batch.cut(puts, 2, 12))
    assert pieces == [tuple(puts[0:2]), (puts[2],), (puts[3],), tuple(puts[4:6])]
