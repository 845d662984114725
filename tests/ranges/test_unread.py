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
        self._buffered_bytes = 0
        self.looks = 0
        self.closed_because: list[str] = []

    @property
    def buffered_bytes(self) -> int:
        """How much, as whoever looks gets to know."""
        self.looks += 1
        return self._buffered_bytes

    @buffered_bytes.setter
    def buffered_bytes(self, unread: int) -> None:
        self._buffered_bytes = unread

    def close(self, reason: str) -> None:
        """Note it."""
        self.closed_because.append(reason)


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
        left = sum(client.connection.buffered_bytes for client in clients)
        assert shared.held == left <= unread.ALL_BYTES_MAX + slack
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
        assert len(client.connection.closed_because) == (0 if read_bytes else 1)
        await asyncio.sleep(unread.POLL_S_MAX)
        assert shared.held == client.connection.buffered_bytes
        client.reader.gone()
        assert shared.held == 0

    virtual_loop.run(main)


def test_who_is_not_waited_for_may_read_whenever_it_likes() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        client = Client(shared)
        for leaves in (unread.EACH_BYTES_MAX, 0, unread.EACH_BYTES_MAX):
            client.connection.buffered_bytes = leaves
            if leaves:
                client.reader.sent()
            await asyncio.sleep(2 * unread.SILENT_S_MAX)
            assert shared.held == leaves
        assert not client.connection.closed_because
        client.take_as_much_as_it_may()
        await asyncio.sleep(0.9 * unread.SILENT_S_MAX)
        assert not client.connection.closed_because, "the wait has only begun"
        await asyncio.sleep(0.2 * unread.SILENT_S_MAX)
        assert client.connection.closed_because

    virtual_loop.run(main)


def test_the_silent_are_looked_at_seldom() -> None:
    """Hundreds of them would have the loop do nothing else."""

    async def main(_: VirtualLoop) -> None:
        client = Client(unread.limit_of_all())
        client.take_as_much_as_it_may()
        client.connection.looks = 0
        await asyncio.sleep(4.0)
        assert client.connection.looks < 3 * (4.0 / unread.POLL_S_MAX + 10), "three times each"

    virtual_loop.run(main)


def test_who_leaves_little_counts_for_nothing_and_is_not_looked_at() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = unread.limit_of_all()
        client = Client(shared)
        client.connection.buffered_bytes = unread.EACH_BYTES_MIN
        client.reader.sent()
        assert shared.held == 0
        client.connection.looks = 0
        await asyncio.sleep(1.0)
        assert client.connection.looks == 0
        client.connection.buffered_bytes = unread.EACH_BYTES_MIN + 1
        client.reader.sent()
        assert shared.held == unread.EACH_BYTES_MIN + 1
        client.connection.buffered_bytes = unread.EACH_BYTES_MIN
        await asyncio.sleep(unread.POLL_S_MIN)
        assert shared.held == 0
        client.connection.looks = 0
        await asyncio.sleep(1.0)
        assert client.connection.looks == 0

    virtual_loop.run(main)


def test_who_has_read_all_is_waited_for_anew_and_with_new_attention() -> None:
    """However seldom it was looked at before."""

    async def main(_: VirtualLoop) -> None:
        client = Client(unread.limit_of_all())
        for wait in (1, 2):
            client.take_as_much_as_it_may()
            await asyncio.sleep(unread.POLL_S_MIN / 2)
            client.connection.buffered_bytes = 0
            await asyncio.sleep(unread.POLL_S_MIN)
            assert client.resumed == wait
            client.connection.buffered_bytes = unread.EACH_BYTES_MAX
            client.reader.sent()
            await asyncio.sleep(1.0)
            client.connection.buffered_bytes = 0
            client.reader.sent()
            await asyncio.sleep(unread.POLL_S_MAX)

    virtual_loop.run(main)
