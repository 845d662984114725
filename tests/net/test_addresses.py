"""People write addresses; what is wrong with one must be told in their terms."""

import pytest

from multiraft import errors
from multiraft.net import addresses


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:7000", "127.0.0.1", 7_000),
        ("[::1]:1234", "::1", 1_234),
        ("[fe80::1%eth0]:0", "fe80::1%eth0", 0),
        ("node-1.example.org:65535", "node-1.example.org", 65_535),
        ("localhost:0", "localhost", 0),
        ("node_1.example.org.:7000", "node_1.example.org.", 7_000),
        (f"{'n' * 63}.example.org:7000", f"{'n' * 63}.example.org", 7_000),
    ],
)
def test_an_address_is_split_and_joined_again(address: str, host: str, port: int) -> None:
    assert addresses.split(address) == (host, port)
    assert addresses.join(host, port) == address


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "has no port"),
        ("localhost", "has no port"),
        ("7400", "has no host"),
        ("http://localhost:7400", "is no URL"),
        ("localhost:7400/", "is no URL"),
        (":7000", "has no host"),
        ("[]:7000", "has no host"),
        ("::1:7000", "needs brackets"),
        ("[::1:7000", "needs brackets"),
        ("[host:7000", "brackets do not match"),
        ("host]:7000", "brackets do not match"),
        ("host:", "port is not a number"),
        ("host:http", "port is not a number"),
        ("host:-1", "port is not a number"),
        ("host:65536", "port is not a number"),
        ("host:\u0661", "port is not a number"),
        ("my host:1", "blanks"),
        ("host\n:1", "blanks"),
        ("node..example.org:7000", "empty or too long"),
        (".:7000", "empty or too long"),
        (f"{'n' * 64}.example.org:7000", "empty or too long"),
    ],
)
def test_a_bad_address_is_refused_with_its_problem_and_an_example(
    address: str, problem: str
) -> None:
    with pytest.raises(errors.ConfigError, match=problem) as caught:
        addresses.split(address)
    assert "127.0.0.1:7400" in caught.value.message
