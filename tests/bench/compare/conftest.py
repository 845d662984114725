"""Records as a run would have kept them."""

from collections.abc import Callable

import pytest

from bench.compare.peer import Data, Load, Operation
from bench.compare.records import Measured, Record
from multiraft.cli.machine import Machine
from multiraft.cli.measure import Latency

MACHINE = Machine("a processor", 2, 24 << 30, "ext4", "3.11.7")

Recorded = Callable[..., Record]


@pytest.fixture
def recorded() -> Recorded:
    """Return what makes the record of a round of one second."""

    def make(
        peer: str,
        number: int,
        requests: int,
        *,
        operation: Operation = Operation.PUT,
        callers: int = 16,
        p50_ms: float = 1.0,
        max_ms: float = 9.0,
        server_cpu_s: float | None = 0.5,
        client_cpu_s: float | None = 0.1,
        remark: str = "",
        is_durable: bool = True,
    ) -> Record:
        load = Load(requests, 1.0, Latency(p50_ms, 4.0, 5.0, max_ms), client_cpu_s)
        return Record(
            peer=peer,
            operation=operation,
            callers=callers,
            round=number,
            seconds=1.0,
            began_at="2026-11-27T12:00:00+00:00",
            measured=Measured(load, server_cpu_s, 200_000_000, 0.05),
            settings={"version": "1.2"},
            remark=remark,
            is_durable=is_durable,
            data=Data(),
            machine=MACHINE,
        )

    return make
