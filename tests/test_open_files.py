"""How many files a process may open, and how many connections that leaves."""

import resource

import pytest

from multiraft import node, runtime
from multiraft.config import NetConfig


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "raised_to"),
    [
        (20_000, 20_000, 14_000, None),
        (1_024, 20_000, 14_000, 14_000),
        (1_024, 4_096, 4_096, 4_096),
        (1_024, 1_024, 1_024, None),
        (1_024, resource.RLIM_INFINITY, 14_000, 14_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 14_000, None),
    ],
)
def test_as_many_files_as_wanted_or_as_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: int, raised_to: int | None
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    assert runtime.allow_open_files(14_000) == allowed
    assert made == ([] if raised_to is None else [(raised_to, hard)])


@pytest.mark.parametrize(("files", "connections"), [(20_000, 12_000), (4_096, 2_048), (1_024, 512)])
def test_connections_are_refused_by_us_before_the_system_does_it(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(runtime, "allow_open_files", lambda wanted: min(wanted, files))
    fitted = node._that_fits_open_files(NetConfig())
    assert fitted.connections_max == connections
    assert NetConfig().connections_max == 12_000
