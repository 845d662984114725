"""Tests on virtual time."""

from collections.abc import Callable, Coroutine
from typing import Any

from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop


def on_virtual_time(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Make a test of an `async def test_...(loop: VirtualLoop)`."""

    def test() -> None:
        virtual_loop.run(main, limit_s=10_000)

    test.__doc__ = main.__doc__
    return test
