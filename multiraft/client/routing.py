"""Which range an operation is for, and how a span over several ranges is cut at their boundaries.

Purpose
    An operation goes to the range that holds its key. A scan, or the refresh of one, goes to the
    range in which it begins, cut to that range's span; the reply then says that it goes on where it
    was cut, so whoever reads page by page need not know of ranges.
"""

import msgspec

from multiraft.model import keys
from multiraft.model.requests import BatchReply, Operation, Result, Scan, ScanResult
from multiraft.model.transaction_requests import Refresh, RefreshResult

OVER_SPANS = frozenset({Scan, Refresh})
"""What may have to be cut. A part has none of them, or nothing else."""


def anchor_of(operation: Operation) -> tuple[bytes, bool]:
    """Return the key that says which range an operation is for, and whether it is the one below.

    A reverse scan begins in the range that holds the keys right below its end.
    """
    if isinstance(operation, Scan):
        return (operation.end, True) if operation.reverse else (operation.start, False)
    key = getattr(operation, "key", None)
    if key is None:  # Administrative requests without one are sent with an anchor of their own.
        return keys.MIN, False
    assert isinstance(key, bytes), "keys are bytes"
    return key, False


def cut_to(
    operations: tuple[Operation, ...], start: bytes, end: bytes
) -> tuple[tuple[Operation, ...], tuple[bytes | None, ...] | None]:
    """Cut spans to `[start, end)`. Return the operations, and where each was cut (None: not).

    A range that does not hold the key at which a span begins is asked as it is: it says who does.
    """
    if not any(type(operation) in OVER_SPANS for operation in operations):
        return operations, None
    cut: list[Operation] = []
    bounds: list[bytes | None] = []
    for operation in operations:
        piece, bound = operation, None
        if isinstance(operation, Scan):
            if operation.reverse:
                if operation.start < start < operation.end <= end:
                    piece, bound = msgspec.structs.replace(operation, start=start), start
            elif start <= operation.start < end < operation.end:
                piece, bound = msgspec.structs.replace(operation, end=end), end
        elif isinstance(operation, Refresh) and start <= operation.key < end < operation.end:
            piece, bound = msgspec.structs.replace(operation, end=end), end
        cut.append(piece)
        bounds.append(bound)
    return tuple(cut), tuple(bounds)


def with_bounds(reply: BatchReply, bounds: tuple[bytes | None, ...]) -> BatchReply:
    """Make a span that was cut at its range's boundary go on there."""
    results = tuple(
        result if bound is None else _resumed(result, bound)
        for result, bound in zip(reply.results, bounds, strict=True)
    )
    return msgspec.structs.replace(reply, results=results)


def _resumed(result: Result, bound: bytes) -> Result:
    if isinstance(result, ScanResult) and result.resume is None:
        return ScanResult(result.rows, bound)
    if isinstance(result, RefreshResult) and result.succeeded and not result.resume:
        return RefreshResult(True, resume=bound)
    return result
