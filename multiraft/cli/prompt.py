"""Lines as somebody types them at a prompt, read by the event loop.

Purpose
    No thread waits for the keyboard: it could not be told to stop, and the command would then end
    only after the next Enter. So Ctrl-C, and whatever else ends the command, ends it at once.
Invariants
    - The prompt goes to standard error: standard output holds results only.
    - The file stays blocking. Others share it, such as the shell that the command came from.
"""

import asyncio
import os
import sys

_READ_BYTES_MAX = 65_536


class Prompt:
    """Asks for one line after another."""

    __slots__ = ("_fileno", "_text", "_typed")

    def __init__(self, text: str, fileno: int) -> None:
        self._text = text
        self._fileno = fileno
        self._typed = b""

    async def read_line(self) -> str | None:
        """Ask, and return the line without its end; None at the end of the input.

        If cancelled, what was typed so far is kept for the next call.
        """
        _show(self._text)
        while b"\n" not in self._typed:
            await self._readable()
            data = os.read(self._fileno, _READ_BYTES_MAX)
            if not data:
                _show("\n")
                last, self._typed = self._typed, b""
                return _text_of(last) if last else None
            self._typed += data
        line, _, self._typed = self._typed.partition(b"\n")
        return _text_of(line)

    async def _readable(self) -> None:
        """Wait until a read does not block."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._fileno, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._fileno)


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _text_of(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
