import asyncio
from collections.abc import Sequence

from bench.compare import closed_loop
from bench.compare.peer import FORMS, SCANS, Data, Load, Operation
from multiraft.cli.measure import Latency

DATA = Data(keys=1_000)


class Server:
    """Answers one request after the other, each in a tenth of a second."""

    def __init__(self) -> None:
        self.time = 100.0
        self.asked: list[Sequence[int]] = []

    async def call(self, group: Sequence[int]) -> None:
        self.asked.append(group)
        await asyncio.sleep(0)
        self.time += 0.1

    def now(self) -> float:
        return self.time


def run(server: Server, operation: Operation, callers: int, seconds: float) -> Load:
    return asyncio.run(
        closed_loop.run(server.call, operation, DATA, callers, seconds, now=server.now)
    )


def test_a_caller_makes_its_next_request_when_the_last_is_answered() -> None:
    load = run(Server(), Operation.PUT, 1, 0.95)
    assert load.requests == 10
    assert round(load.seconds, 6) == 1.0
    assert load.latency_ms == Latency(100.031, 100.031, 100.031, 100.031)
    assert load.client_cpu_s is not None


def test_callers_have_different_requests_under_way() -> None:
    server = Server()
    load = run(server, Operation.PUT, 4, 0.35)
    assert load.requests == len(server.asked) == 7
    assert len({number for (number,) in server.asked}) == 7


def test_a_request_has_as_many_different_keys_as_it_touches() -> None:
    for operation in (Operation.PUT, Operation.GET, Operation.TXN, Operation.BATCH, *SCANS):
        server = Server()
        run(server, operation, 2, 0.5)
        keys = 1 if operation in SCANS else FORMS[operation].rows
        assert {len(set(group)) for group in server.asked} == {keys}


def test_keys_are_used_again_when_all_were() -> None:
    server = Server()
    run(server, Operation.BATCH, 1, 1.45)
    assert len(server.asked) == 15
    assert server.asked[10:] == server.asked[:5]
