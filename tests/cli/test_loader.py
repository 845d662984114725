import asyncio
from collections.abc import Sequence

import pytest

from multiraft import errors
from multiraft.cli import loader
from multiraft.cli.loader import Loader, Position, StoppedAtBadRowError
from multiraft.cli.rows import START, BadRow, Place, Row


class Writer:
    """Keeps rows; refuses values that are too large; answers when it is let."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.fails_with: errors.MultiraftError | None = None
        self.in_flight: list[set[bytes]] = []
        self.most_in_flight = 0
        self.shared_keys = False
        self.is_busy = asyncio.Event()
        """Set once four batches have been in flight at a time."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def put(self, key: bytes, value: bytes) -> None:
        await self.put_many([(key, value)])

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        own = {key for key, _ in pairs}
        self.shared_keys |= any(own & other for other in self.in_flight)
        self.in_flight.append(own)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        if len(self.in_flight) == 4:
            self.is_busy.set()
        try:
            await self.may_answer.wait()
            await asyncio.sleep(0)
        finally:
            self.in_flight.remove(own)
        if self.fails_with is not None:
            raise self.fails_with
        for _, value in pairs:
            if len(value) > 10:
                raise errors.ValueTooLargeError(size_bytes=len(value), limit_bytes=10)
        self.kept.update(pairs)


def row(number: int, value: bytes = b"v", *, key: bytes | None = None) -> Row:
    return Row(key or b"k%d" % number, value, number, Place(10 * number, number))


def bad(number: int) -> BadRow:
    return BadRow(number, "no good", Place(10 * number, number))


class Load:
    """A load and everything it told."""

    def __init__(self, *, stop: bool = True, start: Position | None = None) -> None:
        self.writer = Writer()
        self.positions: list[Position] = []
        self.bad_rows: list[BadRow] = []
        self.loader = Loader(
            self.writer,
            stop_at_bad_row=stop,
            on_progress=self.positions.append,
            on_bad_row=self.bad_rows.append,
            start=start or Position(),
        )


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "BATCH_ROWS_MAX", 3)
    monkeypatch.setattr(loader, "BATCHES_IN_FLIGHT_MAX", 4)


def test_all_rows_are_put_and_the_position_only_moves_on() -> None:
    async def main() -> None:
        load = Load()
        await load.loader.run([row(number) for number in range(1, 21)])
        assert len(load.writer.kept) == 20
        assert load.loader.acknowledged == Position(Place(200, 20), rows=20)
        assert load.positions == sorted(load.positions, key=lambda each: each.place)
        assert load.writer.most_in_flight == 4

    asyncio.run(main())


def test_nothing_is_acknowledged_before_it_is_answered() -> None:
    async def main() -> None:
        load = Load()
        load.writer.may_answer.clear()
        running = asyncio.create_task(load.loader.run([row(n) for n in range(1, 21)]))
        await load.writer.is_busy.wait()
        assert load.loader.acknowledged.place == START
        load.writer.may_answer.set()
        await running
        assert load.loader.acknowledged.rows == 20

    asyncio.run(main())


def test_of_rows_with_one_key_the_last_wins_and_none_race() -> None:
    async def main() -> None:
        load = Load()
        await load.loader.run([row(n, b"%d" % n, key=b"same") for n in range(1, 14)])
        assert load.writer.kept == {b"same": b"13"}
        assert not load.writer.shared_keys
        assert load.loader.acknowledged.rows == 13

    asyncio.run(main())


def test_stop_at_a_bad_row_acknowledges_exactly_what_lies_before_it() -> None:
    async def main() -> None:
        load = Load(start=Position(Place(0, 0), rows=100))
        given: list[Row | BadRow] = [row(1), row(2), row(3), row(4), bad(5), row(6)]
        with pytest.raises(StoppedAtBadRowError) as caught:
            await load.loader.run(given)
        assert caught.value.row == bad(5)
        assert load.loader.acknowledged == Position(Place(40, 4), rows=104)
        assert not load.writer.in_flight

    asyncio.run(main())


def test_skipping_goes_on_and_counts() -> None:
    async def main() -> None:
        load = Load(stop=False)
        await load.loader.run([bad(1), row(2), bad(3), row(4), bad(5)])
        assert load.bad_rows == [bad(1), bad(3), bad(5)]
        assert load.loader.acknowledged == Position(Place(50, 5), rows=2, bad_rows=3)

    asyncio.run(main())


def test_a_row_that_the_database_refuses_is_found_and_its_neighbours_are_put() -> None:
    async def main() -> None:
        load = Load(stop=False)
        await load.loader.run([row(1), row(2, b"much too large"), row(3), row(4)])
        assert sorted(load.writer.kept) == [b"k1", b"k3", b"k4"]
        assert [each.line for each in load.bad_rows] == [2]
        assert "14 bytes; the limit is 10" in load.bad_rows[0].reason
        assert load.loader.acknowledged == Position(Place(40, 4), rows=3, bad_rows=1)

    asyncio.run(main())


def test_an_error_of_the_cluster_ends_the_load_where_it_was() -> None:
    async def main() -> None:
        load = Load()
        load.writer.fails_with = errors.DeadlineExceededError(deadline_s=10, last_error="x")
        with pytest.raises(errors.DeadlineExceededError):
            await load.loader.run([row(n) for n in range(1, 21)])
        assert load.loader.acknowledged == Position()
        assert not load.writer.in_flight

    asyncio.run(main())


def test_cancelling_leaves_nothing_in_flight() -> None:
    async def main() -> None:
        load = Load()
        load.writer.may_answer.clear()
        running = asyncio.create_task(load.loader.run([row(n) for n in range(1, 21)]))
        await load.writer.is_busy.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not load.writer.in_flight
        assert load.loader.acknowledged == Position()

    asyncio.run(main())
