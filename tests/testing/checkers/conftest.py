"""Short ways to write operations down."""

from typing import Any

import pytest

from multiraft.testing.history import Operation


class Notes:
    """Makes operations with ids in order."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def ok(
        self,
        function: str,
        start: float,
        end: float,
        *,
        key: Any = None,  # noqa: ANN401
        argument: Any = None,  # noqa: ANN401
        result: Any = None,  # noqa: ANN401
        process: int | None = None,
    ) -> Operation:
        number = len(self.operations)
        who = number if process is None else process
        operation = Operation(number, who, function, start, key, argument, result, end, "ok")
        self.operations.append(operation)
        return operation

    def failed(self, function: str, start: float, end: float, **asked: Any) -> Operation:  # noqa: ANN401
        number = len(self.operations)
        operation = Operation(
            number, number, function, start, completed=end, outcome="failed", **asked
        )
        self.operations.append(operation)
        return operation

    def unknown(self, function: str, start: float, **asked: Any) -> Operation:  # noqa: ANN401
        number = len(self.operations)
        operation = Operation(number, number, function, start, **asked)
        self.operations.append(operation)
        return operation


@pytest.fixture
def notes() -> Notes:
    return Notes()
