import os

import pytest

from bench.compare import usage
from bench.compare.usage import Usage
from multiraft.cli import process_usage


def test_what_neither_servers_nor_harness_used_was_used_by_others() -> None:
    used = Usage(12.0, 130.0, 61.0, 22.0).since(Usage(10.0, 126.0, 60.0, 20.5))
    assert used == Usage(2.0, 4.0, 1.0, 1.5)
    assert used.others_cores == 0.75


def test_in_no_time_nothing_is_known_of_others() -> None:
    moment = Usage(10.0, 126.0, 60.0, 20.5)
    assert moment.since(moment).others_cores is None


def test_the_machine_has_used_what_its_parts_have(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {1: 5.0, 2: 7.0}
    monkeypatch.setattr(process_usage, "cpu_seconds", used.__getitem__)
    found = usage.now([1, 2])
    assert found.servers_s == 12.0
    assert 0 < found.harness_s < found.machine_s


def test_a_process_is_read_by_its_id() -> None:
    own = os.times()
    assert process_usage.cpu_seconds(os.getpid()) >= own.user + own.system - 0.1
    assert process_usage.resident_bytes(os.getpid()) > 1_000_000
