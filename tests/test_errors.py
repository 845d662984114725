import msgspec
import pytest

from multiraft import errors
from multiraft.errors import ErrorDetail, MultiraftError
from multiraft.ids import NodeId, RangeId

R2, N1, N3 = RangeId(2), NodeId(1), NodeId(3)

SAMPLES: list[MultiraftError] = [
    errors.NotLeaseholderError(range_id=R2, leaseholder=N3),
    errors.NotLeaseholderError(range_id=R2, leaseholder=None),
    errors.RangeMismatchError(range_id=R2, descriptors=[b"\x00packed\xff"]),
    errors.RangeNotFoundError(range_id=R2, node_id=N1),
    errors.NodeUnavailableError(target="n1", reason="it is down"),
    errors.OverloadedError(what="r2", retry_after_ms=20),
    errors.ConflictingChangeError(range_id=R2, reason="a split is under way"),
    errors.TransactionRetryError(reason="a conflict"),
    errors.LockWaitError(key="/plain/k", holder="6b", waited_ms=2_000),
    errors.ReadUncertainError(key="/plain/k", timestamp=7 << 40),
    errors.TransactionPushedError(timestamp=7 << 40),
    errors.TransactionAbortedError(reason="a deadlock"),
    errors.TransactionTooLargeError(what="keys", size=9, limit=8),
    errors.TransactionEndedError(state="has committed"),
    errors.DeadlineExceededError(deadline_s=0.5, last_error="it is down"),
    errors.OutcomeUnknownError(reason="the connection broke"),
    errors.RequestError("an empty batch", count=0),
    errors.KeyTooLargeError(size_bytes=9, limit_bytes=8),
    errors.ValueTooLargeError(size_bytes=9, limit_bytes=8),
    errors.BatchTooLargeError(what="operations", size=9, limit=8),
    errors.ReadTooOldError(timestamp=7 << 40, threshold=8 << 40),
    errors.InvalidSpanError(start="b", end="a"),
    errors.ConditionFailedError(key="/plain/k", actual=None),
    errors.ConditionFailedError(key="/plain/k", actual=b"\xff"),
    errors.NotAnIntegerError(key="/plain/k", reason="it is text"),
    errors.AdminRefusedError(reason="there is no such node"),
    errors.RangeChangedError(range_id=RangeId(3), seen=4, generation=6),
    errors.StartupError("the directory is full"),
    errors.ConfigError("support_ms is 5"),
    errors.DirectoryInUseError("another process has it"),
    errors.DirectoryFormatError("it is of version 9", version=9),
    errors.AddressInUseError("port 1 is taken", address="a:1"),
    errors.WrongClusterError("this is another cluster"),
    errors.ProtocolError(reason="garbage"),
    errors.ClockOffsetError(ahead_ms=400, limit_ms=250),
    errors.DiskFullError(path="/data", free_bytes=1, reserve_bytes=2),
    errors.StoppedError(what="the client"),
    errors.StoreFailedError(reason="EIO"),
    errors.CorruptionError(reason="a checksum differs"),
]
NEVER_RAISED = {errors.MultiraftError, errors.RetryableError}
"""They only sort the others."""


def across(error: MultiraftError) -> MultiraftError:
    """Return what the other end makes of an error."""
    packed = msgspec.msgpack.encode(errors.to_wire(error))
    return errors.from_wire(msgspec.msgpack.decode(packed, type=ErrorDetail))


def test_every_class_has_a_code_of_its_own() -> None:
    classes = errors._all_classes(MultiraftError)
    assert len({each.code for each in classes}) == len(classes)
    assert {each.code: each for each in classes} == errors.BY_CODE


def test_every_class_is_in_the_tree_that_the_module_draws_and_says_what_it_means() -> None:
    for each in errors._all_classes(MultiraftError):
        assert each.__name__ in (errors.__doc__ or "")
        assert each.__doc__


def test_every_class_that_is_raised_is_sampled() -> None:
    assert {type(sample) for sample in SAMPLES} == set(errors.BY_CODE.values()) - NEVER_RAISED


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.code)
def test_an_error_crosses_the_wire_as_it_is(sample: MultiraftError) -> None:
    arrived = across(sample)
    assert type(arrived) is type(sample)
    assert (arrived.message, arrived.facts) == (sample.message, sample.facts)
    assert vars(arrived) == vars(sample), "what handlers look at comes along"
    assert str(arrived) == arrived.message


def test_a_code_of_a_later_version_keeps_its_message_however_often_it_is_passed_on() -> None:
    later = ErrorDetail("quota_exceeded", "the quota is used up", {"limit": 5})
    arrived = errors.from_wire(later)
    assert type(arrived) is MultiraftError
    assert arrived.message == "quota_exceeded: the quota is used up"
    assert across(across(arrived)).message == arrived.message


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("overloaded", {}),
        ("overloaded", {"what": "r2", "retry_after_ms": 5, "later": True}),
        ("deadline_exceeded", {"deadline_s": "soon", "last_error": ""}),
        ("retryable", {}),
    ],
)
def test_facts_that_do_not_fit_leave_the_message(code: str, facts: dict[str, object]) -> None:
    arrived = errors.from_wire(ErrorDetail(code, "as it was told", facts))
    assert type(arrived) is MultiraftError
    assert arrived.message == f"{code}: as it was told"


def test_what_the_router_repeats_is_retryable_and_what_it_may_not_is_not() -> None:
    assert issubclass(errors.NotLeaseholderError, errors.RetryableError)
    for definite in (errors.RequestError, errors.DeadlineExceededError, errors.OutcomeUnknownError):
        assert not issubclass(definite, errors.RetryableError)
