"""How often functions of the product are called, and how often they call what Python brings.

Such counts are the same in every run and on every machine, and grow with the work that is done.
"""

import gc
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

import msgspec

import multiraft

_PRODUCT = Path(multiraft.__file__).parent
_STAND_INS = ("sim/", "net/inproc.py", "net/links.py", "storage/memory.py")
"""Of the product, but in the place of what production has: they count nothing."""


class Function(msgspec.Struct, frozen=True, order=True):
    """A function of the product."""

    file: str
    line: int
    name: str

    @property
    def package(self) -> str:
        """Of the packages in `multiraft`, the one that it is in; of a single module, its name."""
        return self.file.partition("/")[0].removesuffix(".py")


class Calls(msgspec.Struct, frozen=True):
    """What was counted."""

    calls: dict[Function, int]
    """How often each function was called, or resumed."""
    builtin_calls: dict[Function, int]
    """How often each called a function that is not written in Python."""


class CallCounter:
    """Counts the calls of this thread from `start` to `stop`."""

    def __init__(self) -> None:
        self._calls: Counter[CodeType] = Counter()
        self._builtin_calls: Counter[CodeType] = Counter()

    def start(self) -> None:
        """Begin, or go on."""
        gc.collect()
        gc.disable()  # What is finalised, and when, is no work of the requests.
        sys.setprofile(self._count)

    def stop(self) -> None:
        """Count no more for now."""
        sys.setprofile(None)
        gc.enable()

    def counted(self) -> Calls:
        """Return what functions of the product have done."""
        return Calls(_of_product(self._calls), _of_product(self._builtin_calls))

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self._calls[frame.f_code] += 1
        elif event == "c_call":
            self._builtin_calls[frame.f_code] += 1


def _of_product(counts: Counter[CodeType]) -> dict[Function, int]:
    found: Counter[Function] = Counter()
    for code, count in counts.items():
        path = Path(code.co_filename)
        if path.is_relative_to(_PRODUCT):
            file = path.relative_to(_PRODUCT).as_posix()
            if not file.startswith(_STAND_INS):
                found[Function(file, code.co_firstlineno, code.co_qualname)] += count
    return dict(found)
