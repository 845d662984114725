import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft import config, errors
from multiraft.client.transaction.write_buffer import WriteBuffer
from multiraft.model.requests import Delete, Put
from multiraft.model.transaction import IntentRef

ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.binary(min_size=1, max_size=2)
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=12)


def buffer(**limits: int) -> WriteBuffer:
    return WriteBuffer(config.LimitsConfig(**limits))


def test_what_is_written_again_is_sent_again_under_a_new_sequence() -> None:
    writes = buffer()
    writes.set(b"a", b"1")
    writes.set(b"b", None)
    assert writes.operations() == [Put(b"a", b"1"), Delete(b"b")]
    assert writes.mark_sent(1) == (b"a", b"b")
    assert (writes.operations(), writes.unsent_bytes) == ([], 0)
    writes.set(b"b", b"22")
    assert writes.operations() == [Put(b"b", b"22")]
    assert writes.unsent_bytes == 3
    assert writes.mark_sent(2) == (b"b",)
    assert writes.references() == (IntentRef(b"a", 1), IntentRef(b"b", 2))


def test_what_was_not_laid_is_taken_back_unless_it_was_sent_again_since() -> None:
    writes = buffer()
    for key in (b"a", b"b", b"c"):
        writes.set(key, b"1")
    writes.mark_sent(1)
    writes.set(b"a", b"2")
    writes.mark_sent(2)
    writes.set(b"c", b"33")
    writes.take_back((b"a", b"b", b"c"), 1)
    assert sorted(each.key for each in writes.operations()) == [b"b", b"c"]
    assert writes.unsent_bytes == 2 + 3


@ANY_SPEED
@given(WRITES)
def test_sizes_are_those_of_the_newest_values(writes: list[tuple[bytes, bytes | None]]) -> None:
    made = buffer()
    for key, value in writes:
        made.set(key, value)
    newest = dict(writes)
    size = sum(len(key) + len(value or b"") for key, value in newest.items())
    assert made.values == newest
    assert made.size_bytes == made.unsent_bytes == size


def test_a_write_beyond_a_limit_changes_nothing() -> None:
    writes = buffer(transaction_keys_max=2, transaction_bytes_max=10)
    writes.set(b"a", b"1234")
    writes.set(b"b", b"1234")
    with pytest.raises(errors.TransactionTooLargeError, match="has 3 keys; the limit is 2"):
        writes.set(b"c", b"")
    with pytest.raises(errors.TransactionTooLargeError, match="has 11 bytes; the limit is 10"):
        writes.set(b"a", b"12345")
    writes.set(b"a", b"1")
    writes.set(b"b", b"1234567")
    assert writes.values == {b"a": b"1", b"b": b"1234567"}
    assert writes.size_bytes == 10


def test_the_keys_must_fit_into_the_part_that_ends_the_transaction() -> None:
    writes = buffer(batch_bytes_max=20)
    writes.set(b"123456", bytes(100))
    with pytest.raises(errors.TransactionTooLargeError, match="11 bytes of keys; the limit is 10"):
        writes.set(b"12345", b"")
    writes.set(b"1234", b"")
    writes.set(b"1234", b"1")


@ANY_SPEED
@given(st.dictionaries(KEYS, st.binary(max_size=3)), WRITES, KEYS, KEYS, st.booleans())
def test_a_scan_shows_own_writes_over_what_is_there(
    there: dict[bytes, bytes],
    writes: list[tuple[bytes, bytes | None]],
    start: bytes,
    end: bytes,
    reverse: bool,
) -> None:
    made = buffer()
    seen = dict(there)
    for position, (key, value) in enumerate(writes):
        if position == len(writes) // 2:
            made.removals(b"", b"\xff")  # From here on the keys are kept in order.
        made.set(key, value)
        if value is None:
            seen.pop(key, None)
        else:
            seen[key] = value

    def rows(of: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        return sorted(((k, v) for k, v in of.items() if start <= k < end), reverse=reverse)

    flat = [part for row in rows(there) for part in row]
    assert made.over(flat, start, end, reverse=reverse) == rows(seen)
    removed = [key for key, value in made.values.items() if value is None and start <= key < end]
    assert made.removals(start, end) == len(removed)
