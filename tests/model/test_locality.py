"""Where a node is: what may be told, and what it says of two nodes."""

import msgspec
import pytest

from multiraft import errors
from multiraft.model import encoding, locality
from multiraft.model.locality import Tier


@pytest.mark.parametrize(
    "text", ["", "host=alpha", "zone=b,host=alpha", "region=eu-1,zone=b.2,rack=7,host=10.0.0.1:1"]
)
def test_what_is_told_is_shown_as_it_was(text: str) -> None:
    told = locality.parse(text)
    locality.check(told)
    assert locality.show(told) == text


def test_a_locality_keeps_its_bytes_for_ever() -> None:
    packed = encoding.pack(locality.parse("zone=b,host=alpha"))
    assert packed.hex() == "9292a47a6f6e65a16292a4686f7374a5616c706861"
    assert msgspec.msgpack.decode(packed, type=locality.Locality) == (
        Tier("zone", "b"),
        Tier("host", "alpha"),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("alpha", "'alpha' in a locality is not KEY=VALUE: write tiers such as zone=b,host=alpha"),
        ("zone=b,", "'' in a locality is not KEY=VALUE"),
        ("host=", "'host=' has a value that a locality cannot have"),
        ("=alpha", "'=alpha' has a key that a locality cannot have"),
        ("Zone=b", "'Zone=b' has a key"),
        ("zone=a b", "'zone=a b' has a value"),
        ("zone=a=b", "'zone=a=b' has a value"),
        ("host=" + "x" * 65, "64 at most"),
        ("zone=a,zone=b", "names 'zone' twice"),
        ("host=alpha,zone=b", "host=alpha,zone=b goes on after 'host', the smallest tier"),
        (",".join(f"t{number}=x" for number in range(9)), "at most 8 tiers"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(text: str, named: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        locality.parse(text)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("one", "other", "tiers", "is_same_host"),
    [
        ("", "", 0, False),
        ("host=a", "", 0, False),
        ("host=a", "host=a", 1, True),
        ("host=a", "host=b", 0, False),
        ("zone=x,host=a", "zone=x,host=a", 2, True),
        ("zone=x,host=a", "zone=x,host=b", 1, False),
        ("zone=x,host=a", "zone=y,host=a", 0, False),
        ("zone=x", "zone=x", 1, False),
        ("zone=x", "zone=x,host=a", 1, False),
        ("rack=x,host=a", "zone=x,host=a", 0, False),
    ],
)
def test_nodes_share_what_they_agree_in_from_the_largest_tier_on(
    one: str, other: str, tiers: int, is_same_host: bool
) -> None:
    pair = locality.parse(one), locality.parse(other)
    for here, there in (pair, pair[::-1]):
        assert locality.tiers_shared(here, there) == tiers
        assert locality.is_same_host(here, there) is is_same_host
