"""The operating system's side of the seams."""

import os

from multiraft.runtime import SystemRng


def test_identifiers_are_drawn_anew_after_a_fork() -> None:
    """Rule A10: two processes with one pool would take each other's writes for their own."""
    rng = SystemRng()
    rng.unique_id()  # Draws a block, most of which is left when the process forks.
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.write(write_end, rng.unique_id())
        os._exit(0)
    os.waitpid(child, 0)
    drawn_there = os.read(read_end, 16)
    os.close(read_end)
    os.close(write_end)
    assert len(drawn_there) == 16
    assert drawn_there != rng.unique_id()


def test_no_two_identifiers_are_equal() -> None:
    rng = SystemRng()
    assert len({rng.unique_id() for _ in range(1_000)}) == 1_000
