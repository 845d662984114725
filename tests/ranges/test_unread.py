"""What clients leave unread (rule: bounded for each, and for all together)."""

import asyncio

import pytest

from multiraft.ranges import unread
from multiraft.ranges.shared_limit import SharedLimit
from multiraft.ranges.unread import Reader
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop


class Leaving:
    """A connection whose other end leaves so much unread."""

    def __init__(self) -> None:
        self.buffered_bytes = 0
        self.closed_because = ""

    def close(self, reason: str) -> None:
        """Note it."""
        self.closed_because = reason


class Client:
    """A reader, and what it was told."""

    def __init__(self, shared: SharedLimit) -> None:
        self.connection = Leaving()
        self.resumed = 0
        self.reader = Reader(self.connection, shared, self._resume)  # type: ignore[arg-type]

    def _resume(self) -> None:
        self.resumed += 1

    def take_as_much_as_it_may(self) -> int:
        """Leave replies unread until it is behind, and have it waited for."""
        while not self.reader.is_behind:
            self.connection.buffered_bytes += 1 << 10
        self.reader.wait()
        return self.connection.buffered_bytes


def test_one_client_alone_may_leave_four_megabytes() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        assert Client(shared).take_as_much_as_it_may() == unread.EACH_BYTES_MAX + (1 << 10)

    virtual_loop.run(main)


def test_many_that_read_nothing_leave_no_more_than_all_may_and_one_more_goes_on() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        clients = [Client(shared) for _ in range(1_000)]
        taken = [client.take_as_much_as_it_may() for client in clients]
        assert taken == sorted(taken, reverse=True), "the later, the less"
        slack = len(clients) * (unread.EACH_BYTES_MIN + (1 << 10))
        assert shared.held == sum(taken) <= unread.ALL_BYTES_MAX + slack
        assert shared.each_now == unread.EACH_BYTES_MIN
        reads = Client(shared)
        reads.connection.buffered_bytes = unread.EACH_BYTES_MIN
        assert not reads.reader.is_behind

    virtual_loop.run(main)


def test_clients_that_are_served_at_the_same_time_share_before_anybody_is_behind() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        clients = [Client(shared) for _ in range(200)]
        while ahead := [client for client in clients if not client.reader.is_behind]:
            for client in ahead:
                client.connection.buffered_bytes += 1 << 16
                client.reader.sent()
        slack = len(clients) * (unread.EACH_BYTES_MIN + (1 << 16))
        assert shared.held <= unread.ALL_BYTES_MAX + slack
        for client in clients:
            client.connection.buffered_bytes = 0
        await asyncio.sleep(2 * unread.POLL_S_MAX)
        assert shared.held == 0, "though nothing more was sent to them"
        assert not any(client.resumed for client in clients), "nobody waited"

    virtual_loop.run(main)


def test_what_is_read_or_gone_is_free_for_others() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        clients = [Client(shared) for _ in range(100)]
        for client in clients:
            client.take_as_much_as_it_may()
        for client in clients[:50]:
            client.connection.buffered_bytes = 0
        for client in clients[50:]:
            client.reader.gone()
            client.reader.gone()
        await asyncio.sleep(2 * unread.POLL_S_MAX)
        assert shared.held == 0
        assert [client.resumed for client in clients] == [1] * 50 + [0] * 50
        assert not any(client.reader.is_waited_for for client in clients)

    virtual_loop.run(main)


@pytest.mark.parametrize("read_bytes", [0, 1])
def test_who_reads_nothing_is_closed_and_counts_until_it_is_gone(read_bytes: int) -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        client = Client(shared)
        client.take_as_much_as_it_may()
        for _second in range(round(unread.SILENT_S_MAX) + 1):
            await asyncio.sleep(1.0)
            client.connection.buffered_bytes -= read_bytes
        assert bool(client.connection.closed_because) == (not read_bytes)
        await asyncio.sleep(unread.POLL_S_MAX)
        assert shared.held == client.connection.buffered_bytes
        client.reader.gone()
        assert shared.held == 0

    virtual_loop.run(main)


def test_the_silent_are_looked_at_seldom() -> None:
    """Hundreds of them would have the loop do nothing else."""

    class Counting(Leaving):
        looks = 0

        def __getattribute__(self, name: str) -> object:
            if name == "buffered_bytes":
                Counting.looks += 1
            return super().__getattribute__(name)

    async def main(_: VirtualLoop) -> None:
        client = Client(unread.limit_of_all())
        client.connection = Counting()
        client.reader = Reader(client.connection, unread.limit_of_all(), client._resume)  # type: ignore[arg-type]
        client.connection.buffered_bytes = unread.EACH_BYTES_MAX + 1
        client.reader.wait()
        Counting.looks = 0
        await asyncio.sleep(4.0)
        assert Counting.looks < 3 * (4.0 / unread.POLL_S_MAX + 10), "three times each"

    virtual_loop.run(main)
