"""Help texts from docstrings, which are folded at the width of the source and not of a terminal."""

import inspect
from collections.abc import Callable


def of(command: Callable[..., None]) -> str:
    """Return what a command's docstring says, each of its paragraphs as one line.

    An indented paragraph keeps its lines.
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else paragraph.replace("\n", " ")
        for paragraph in paragraphs
    )
