"""RocksDB's errors as ours."""

from pathlib import Path

import pytest

from multiraft import errors
from multiraft.storage import rocks_errors


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Corruption: block checksum mismatch in 000012.sst", errors.CorruptionError),
        ("IO error: No space left on device: While appending", errors.StoreFailedError),
        ("Invalid argument: whatever", errors.StoreFailedError),
        ("anything else", errors.StoreFailedError),
    ],
)
def test_errors_are_told_apart_by_how_they_begin(text: str, kind: type[Exception]) -> None:
    translated = rocks_errors.translate(Exception(text), Path("/store"))
    assert type(translated) is kind
    assert text in translated.message
    assert "/store" in translated.message


@pytest.mark.parametrize(
    ("text", "is_lock"),
    [
        ("IO error: lock hold by current process, acquire time 1: /s/LOCK: No locks", True),
        ("IO error: While lock file: /s/LOCK: Resource temporarily unavailable", True),
        ("IO error: No space left on device", False),
        ("Corruption: While lock file", False),
    ],
)
def test_lock_errors_are_told_from_others(text: str, *, is_lock: bool) -> None:
    assert rocks_errors.is_lock_error(text) is is_lock


def test_refusal_answers_every_call_with_a_copy_of_the_error() -> None:
    original = errors.StoreFailedError(reason="EIO")
    refusal = rocks_errors.Refusal(original)
    for call in (refusal["family"].get, refusal.write, refusal["family"].iter, refusal.status):
        with pytest.raises(errors.StoreFailedError, match="EIO") as raised:
            call(b"k")
        assert raised.value is not original
    assert original.__traceback__ is None
