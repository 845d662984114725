"""A pipe stands for the keyboard."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from multiraft.cli.prompt import Prompt


class Keyboard:
    """What is typed, and the prompt that reads it."""

    def __init__(self) -> None:
        self._fileno, self._written = os.pipe()
        self.prompt = Prompt("> ", self._fileno)

    def type(self, text: str) -> None:
        os.write(self._written, text.encode())

    def end(self) -> None:
        os.close(self._written)

    def close(self) -> None:
        os.close(self._fileno)


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    made = Keyboard()
    yield made
    made.close()


def test_lines_typed_ahead_are_read_one_by_one(keyboard: Keyboard) -> None:
    async def main() -> None:
        keyboard.type("get a\n\nget \u00e9\nrest")
        keyboard.end()
        lines = [await keyboard.prompt.read_line() for _ in range(5)]
        assert lines == ["get a", "", "get \u00e9", "rest", None]

    asyncio.run(main())


def test_a_line_is_waited_for_until_it_ends(keyboard: Keyboard) -> None:
    async def main() -> None:
        reading = asyncio.create_task(keyboard.prompt.read_line())
        for part in ("ge", "t a"):
            await asyncio.sleep(0)
            keyboard.type(part)
        await asyncio.sleep(0)
        keyboard.type("\n")
        assert await reading == "get a"
        keyboard.end()

    asyncio.run(main())


def test_a_prompt_at_which_nobody_types_can_be_left(keyboard: Keyboard) -> None:
    async def main() -> None:
        reading = asyncio.create_task(keyboard.prompt.read_line())
        await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    asyncio.run(main())  # a thread that reads would keep the loop from ending
    keyboard.end()


def test_the_prompt_is_not_among_the_results(
    keyboard: Keyboard, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        keyboard.type("a\n")
        keyboard.end()
        assert await keyboard.prompt.read_line() == "a"
        assert await keyboard.prompt.read_line() is None

    asyncio.run(main())
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "> > \n")
