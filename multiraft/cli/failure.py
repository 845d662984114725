"""How a command that fails tells so: one line of problem and remedy, and an exit code.

Purpose
    Turn every `MultiraftError` into what a person, or a script, needs. The exit codes are part of
    the interface; docs/operations.md lists them.
Invariants
    - Every class of the error tree has an exit code and a remedy, found along its bases.
    - A failure is written to standard error, so that standard output holds results only.
"""

import enum
import os
import sys
import traceback
from typing import TypeVar

import msgspec
import orjson
from rich.console import Console
from rich.text import Text

from multiraft import errors

T = TypeVar("T")

DEBUG_VARIABLE = "MULTIRAFT_DEBUG"


class ExitCode(enum.IntEnum):
    """What the command's exit status means; docs/operations.md says the same."""

    OK = 0
    NEGATIVE = 1
    """It worked, and the answer is no: no such key, the condition does not hold, rows differ."""
    USAGE = 2
    UNAVAILABLE = 3
    """No answer in time, or nobody there who could give one. Nothing was written."""
    REFUSED = 4
    OUTCOME_UNKNOWN = 5
    STARTUP = 6
    STORE_FAILED = 7
    BAD_ROWS = 8
    """`load` met rows it could not use; it says which."""
    UNDECIDED = 9
    """`check` found neither an explanation nor a contradiction within its bound."""
    INTERNAL = 70
    INTERRUPTED = 130
    UNREAD = 141
    """Whoever read the output is gone, as in `multiraft scan | head`: as if SIGPIPE had come."""


class Failure(msgspec.Struct, frozen=True):
    """An error as it is told; the fields are the members of the JSON form."""

    code: str
    problem: str
    remedy: str
    exit_code: int


_EXIT_CODES: dict[type[errors.MultiraftError], ExitCode] = {
    errors.MultiraftError: ExitCode.REFUSED,
    errors.RetryableError: ExitCode.UNAVAILABLE,
    errors.DeadlineExceededError: ExitCode.UNAVAILABLE,
    errors.ProtocolError: ExitCode.UNAVAILABLE,
    errors.ClockOffsetError: ExitCode.UNAVAILABLE,
    errors.DiskFullError: ExitCode.UNAVAILABLE,
    errors.StoppedError: ExitCode.UNAVAILABLE,
    errors.RequestError: ExitCode.REFUSED,
    errors.ConditionFailedError: ExitCode.NEGATIVE,
    errors.OutcomeUnknownError: ExitCode.OUTCOME_UNKNOWN,
    errors.StartupError: ExitCode.STARTUP,
    errors.StoreFailedError: ExitCode.STORE_FAILED,
}

# An empty remedy: the message says what to do, or there is nothing to be done.
_REMEDIES: dict[type[errors.MultiraftError], str] = {
    errors.MultiraftError: "",
    errors.RetryableError: "run the command again in a moment",
    errors.NodeUnavailableError: "check that a node runs there, or name others with --address",
    errors.OverloadedError: "send less at once, or wait and run the command again",
    errors.DeadlineExceededError: (
        "see `multiraft status` for nodes that do not run and `multiraft locks` for who waits for "
        "whom, or raise --timeout"
    ),
    errors.OutcomeUnknownError: "read the key before you write it again",
    errors.RequestError: "",
    errors.KeyTooLargeError: "use a shorter key",
    errors.ValueTooLargeError: "cut the value into several keys",
    errors.BatchTooLargeError: "send several batches",
    errors.InvalidSpanError: "swap the two, or use --reverse to read backwards",
    errors.ConditionFailedError: "read the key again and decide anew",
    errors.TransactionRetryError: "run it again; a script in a file is run again by itself",
    errors.TransactionTooLargeError: "cut the work into several transactions",
    errors.ReadTooOldError: "read at a later time",
    errors.TransactionEndedError: "begin another one",
    errors.NotAnIntegerError: "use another key; counters are written by `multiraft increment` only",
    errors.StartupError: "",
    errors.ProtocolError: "check that --address names a multiraft node of this version",
    errors.ClockOffsetError: "synchronise the clocks of the machines (NTP)",
    errors.StoppedError: "start it again",
    errors.StoreFailedError: "see the node's log; the other nodes carry on",
    errors.CorruptionError: (
        "replace this node by one with an empty directory; the other nodes have the data"
    ),
}


def _of_class(table: dict[type[errors.MultiraftError], T], kind: type[errors.MultiraftError]) -> T:
    for base in kind.__mro__:
        if base in table:
            return table[base]
    raise AssertionError(f"{kind.__name__} is not a MultiraftError")


def describe(error: errors.MultiraftError) -> Failure:
    """Return how `error` is told."""
    kind = type(error)
    return Failure(
        code=error.code,
        problem=error.message,
        remedy=_of_class(_REMEDIES, kind),
        exit_code=_of_class(_EXIT_CODES, kind),
    )


def describe_usage(problem: str, remedy: str = "") -> Failure:
    """Return how a wrong command line, or a wrong line of a script, is told."""
    return Failure("usage", problem, remedy, ExitCode.USAGE)


def describe_unreadable(error: OSError) -> Failure:
    """Return how a file that cannot be opened, read or written is told."""
    what = f"{error.filename}: " if error.filename else ""
    problem = f"{what}{error.strerror or error}"
    return Failure("file", problem, "check the path and its permissions", ExitCode.USAGE)


def describe_internal(error: Exception) -> Failure:
    """Return how a mistake of ours is told; its traceback is shown on demand only."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    return Failure(
        code="internal",
        problem=f"internal error: {type(error).__name__}: {error}",
        remedy=f"this is a bug; set {DEBUG_VARIABLE}=1 to see where it happens, and report it",
        exit_code=ExitCode.INTERNAL,
    )


def report(failure: Failure, *, as_json: bool) -> None:
    """Write `failure` to standard error: one line for people, one object for programs."""
    if as_json:
        sys.stderr.write(orjson.dumps({"error": msgspec.to_builtins(failure)}).decode() + "\n")
        return
    line = Text.assemble(("error: ", "bold red"), failure.problem)
    if failure.remedy:
        line.append(f" — {failure.remedy}", style="dim")
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)
