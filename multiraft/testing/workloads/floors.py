"""What was known before an operation began: the quick check of real time, where values only grow.

Source
    Herlihy and Wing (1990): what had ended before is before in every order.
"""

from collections.abc import Iterable, Iterator

from multiraft.testing.history import Operation


def with_floor(operations: Iterable[Operation]) -> Iterator[tuple[Operation, Operation]]:
    """Yield each answered operation, and one that bounds it, where there is one.

    That is, of those that had been answered before it was invoked, the one with the greatest
    result.
    """
    by_end = sorted((o for o in operations if o.outcome == "ok"), key=lambda o: o.deadline)
    greatest: Operation | None = None
    position = 0
    for operation in sorted(by_end, key=lambda o: o.invoked):
        while position < len(by_end) and by_end[position].deadline < operation.invoked:
            ended = by_end[position]
            if greatest is None or ended.result > greatest.result:
                greatest = ended
            position += 1
        if greatest is not None:
            yield operation, greatest
