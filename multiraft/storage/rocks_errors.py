"""RocksDB's errors as ours, and what answers in place of an engine that has one.

Invariants
    - RocksDB raises plain exceptions; how their text begins tells them apart, nothing else does.
    - An error that is kept is never raised itself, only copies of it: its traceback would hold the
      frames of callers, and with them family handles, which keep the directory locked.
"""

from pathlib import Path

from multiraft import errors
from multiraft.storage.engine import Family


class Refusal:
    """Stands where RocksDB's objects stood once the engine has failed or closed.

    So the calls that are made millions of times need not ask first.
    """

    __slots__ = ("_error",)

    def __init__(self, error: errors.MultiraftError) -> None:
        self._error = error

    def __getitem__(self, family: Family) -> "Refusal":
        return self

    def _refuse(self, *_: object, **__: object) -> None:
        raise anew(self._error)

    get = iter = items = write = seek = seek_for_prev = next = prev = key = value = status = _refuse


def is_lock_error(text: str) -> bool:
    """Return whether RocksDB says that the directory is open elsewhere."""
    return text.startswith("IO error:") and (
        "lock hold by current process" in text or "While lock file" in text
    )


def anew(error: errors.MultiraftError) -> errors.MultiraftError:
    """Return a copy to raise, with no traceback yet."""
    return type(error)(**error.facts)


def translate(error: BaseException, directory: Path) -> errors.StoreFailedError:
    """Return what to raise for an error of RocksDB."""
    reason = f"{error} (in {directory})"
    if str(error).startswith("Corruption:"):
        return errors.CorruptionError(reason=reason)
    return errors.StoreFailedError(reason=reason)
