"""Garbage that is collected at no moment of a run: when that happens depends on the machine."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Have no garbage collected in between.

    What is collected may run code: an asynchronous generator that somebody left is closed. At the
    end, only what came into being meanwhile is looked through. Whoever runs many seeds keeps
    nothing of any, if the body has let go of the run by then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if was_enabled:
            gc.enable()
