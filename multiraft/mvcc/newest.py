"""The newest versions of keys that were written of late, so that nobody need search for them.

Purpose
    A write must know what it replaces, and most reads want what was written last. A seek for it
    costs about as much as all else that evaluating a put does.
Invariants
    - What `LeaseholderReader.known` returns is no outcome, and comes first of its key in the
      engine, before all outcomes, as soon as the batch under way is written. Nobody asks before:
      the latches of what is being applied are held till then.
    - A reader sees only what was noted through itself, and a leaseholder has one for its term: so
      what others wrote in between is not missed.
    - Only what is certain to be the newest is noted: what a plain write left, at a time of the
      leaseholder's clock, or a commit in one phase, above all that its keys had. Whatever else
      touches a key, or may, makes it forgotten.
    - A key that a split takes away may stay remembered as it was. Nobody asks through its former
      leaseholder any more: under their latches, requests are first checked against the span of the
      range (`Replica.mismatch`), which never grows again while a term lasts.
    - The memory of a store for this is bounded, however many leaseholders it has.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.versions import OUTCOME, Version
from multiraft.storage import layout
from multiraft.storage.engine import Engine

VERSION_BYTES_MAX = 1_024
"""Larger versions, key and value together, are not kept: reading them costs more than finding
them, and long keys take memory as large values do."""


class NewestVersions:
    """What all leaseholders of a store have noted, the oldest of it forgotten first."""

    __slots__ = ("entries", "entries_max")

    def __init__(self, entries_max: int) -> None:
        # Not a plain dict: taking out its first key again and again costs ever more.
        self.entries: OrderedDict[bytes, tuple[LeaseholderReader, Version]] = OrderedDict()
        """By version prefix, with the reader through which it was noted."""
        self.entries_max = entries_max


class LeaseholderReader(EngineReader):
    """The newest state of an engine, for the leaseholder of a range during one term."""

    __slots__ = ("_newest",)

    def __init__(self, engine: Engine, newest: NewestVersions) -> None:
        super().__init__(engine)
        self._newest = newest

    def known(self, prefix: bytes) -> Version | None:
        """See Reader."""
        found = self._newest.entries.get(prefix)
        return found[1] if found is not None and found[0] is self else None

    def wrote(self, puts: tuple[bytes, ...], written: Iterable[Version]) -> None:
        """A write is applied: `written`, with the first keys and values that `puts` alternates."""
        newest = self._newest
        entries = newest.entries
        physicals: Iterator[bytes] = iter(puts)
        for version in written:
            physical = next(physicals)
            prefix = physical[: -layout.TIMESTAMP_BYTES]
            size_bytes = len(physical) + len(next(physicals))
            if version.kind == OUTCOME or size_bytes > VERSION_BYTES_MAX:
                entries.pop(prefix, None)
                continue
            entries[prefix] = (self, version)
            if len(entries) > newest.entries_max:
                entries.popitem(last=False)

    def forget(self, puts: tuple[bytes, ...], deletes: tuple[bytes, ...]) -> None:
        """Something else is applied, which puts and deletes these physical keys."""
        pop = self._newest.entries.pop
        for physical in puts[::2]:
            pop(physical[: -layout.TIMESTAMP_BYTES], None)
        for physical in deletes:
            pop(physical[: -layout.TIMESTAMP_BYTES], None)
