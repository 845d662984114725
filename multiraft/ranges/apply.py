"""Committed commands -> the engine batch of the turn. Deterministic: every replica does the same.

Invariants
    - Every key that a command writes or deletes lies inside the range's span (rule S2); anything
      else is our mistake and stops the store.
    - The applied state is written in the same batch as the effects up to its index (trap T5).
"""

from multiraft import errors
from multiraft.model.descriptor import RangeDescriptor
from multiraft.storage import layout
from multiraft.storage.engine import Batch, Family


class PhysicalSpan:
    """The bounds that physical keys of one descriptor must respect, computed once."""

    __slots__ = ("_high", "_low", "versions")

    def __init__(self, descriptor: RangeDescriptor) -> None:
        spans = (layout.span(p, descriptor.start, descriptor.end) for p in layout.BY_KEY)
        self._low = {}
        self._high = {}
        for low, high in spans:
            self._low[low[0]] = low
            self._high[low[0]] = high
        self.versions = layout.span(layout.VERSION, descriptor.start, descriptor.end)
        """The part of it that nearly all effects lie in."""

    def contains(self, physical: bytes) -> bool:
        """Return whether a key of the data family belongs to the range."""
        prefix = physical[0]
        low = self._low.get(prefix)
        return low is not None and low <= physical < self._high[prefix]


def put_effects(batch: Batch, family: Family, span: PhysicalSpan, puts: tuple[bytes, ...]) -> None:
    """Put a command's alternating keys and values into `batch`."""
    put = batch.put
    low, high = span.versions
    flat = iter(puts)
    for key, value in zip(flat, flat, strict=True):
        if not (low <= key < high or span.contains(key)):
            raise errors.StoreFailedError(reason=f"a command writes {key!r}, outside its range")
        put(key, value, family)


def delete_effects(
    batch: Batch, family: Family, span: PhysicalSpan, deletes: tuple[bytes, ...]
) -> None:
    """Remove the keys that a command deletes, in `batch`."""
    for key in deletes:
        if not span.contains(key):
            raise errors.StoreFailedError(reason=f"a command deletes {key!r}, outside its range")
        batch.delete(key, family)
