from collections.abc import Iterator

import msgspec
import pytest

from multiraft import config, errors
from multiraft.config import Config, LimitsConfig, LivenessConfig, NetConfig


def test_the_defaults_are_possible() -> None:
    config.check(Config())


@pytest.mark.parametrize(
    ("support_ms", "is_possible"), [(1_000, True), (900, True), (899, False), (1, False)]
)
def test_support_must_last_longer_than_clocks_may_differ(
    support_ms: int, is_possible: bool
) -> None:
    """L5: otherwise no request could ever be served."""
    live = LivenessConfig(heartbeat_ms=200, support_ms=support_ms, clock_offset_ms_max=250)
    if is_possible:
        config.check(Config(liveness=live))
    else:
        with pytest.raises(errors.ConfigError, match=f"support_ms is {support_ms}.* = 900"):
            config.check(Config(liveness=live))


def test_a_frame_must_hold_the_largest_batch() -> None:
    limits, net = LimitsConfig(batch_bytes_max=1 << 22), NetConfig(frame_bytes_max=1 << 23)
    config.check(Config(limits=limits, net=net))
    small = msgspec.structs.replace(net, frame_bytes_max=(1 << 23) - 1)
    with pytest.raises(errors.ConfigError, match="frame_bytes_max is 8388607"):
        config.check(Config(limits=limits, net=small))


def test_a_batch_must_hold_the_largest_key_and_value() -> None:
    limits = LimitsConfig(key_bytes_max=10, value_bytes_max=90, batch_bytes_max=100)
    config.check(Config(limits=limits))
    small = msgspec.structs.replace(limits, batch_bytes_max=99)
    with pytest.raises(errors.ConfigError, match="batch_bytes_max must hold"):
        config.check(Config(limits=small))


def parts() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for field in msgspec.structs.fields(Config):
        yield field.name, field.type


def numbers() -> Iterator[tuple[str, str, type]]:
    for name, part in parts():
        for setting in msgspec.structs.fields(part):
            if setting.type in (int, float):
                yield name, setting.name, setting.type


def config_with(part: str, setting: str, value: float) -> Config:
    changed = msgspec.structs.replace(getattr(Config(), part), **{setting: value})
    return msgspec.structs.replace(Config(), **{part: changed})


@pytest.mark.parametrize(("part", "setting", "kind"), list(numbers()))
def test_a_number_below_zero_is_refused_and_named(part: str, setting: str, kind: type) -> None:
    with pytest.raises(errors.ConfigError, match=rf"\[{part}\] {setting} is -1.* 0$"):
        config.check(config_with(part, setting, kind(-1)))


def test_nothing_that_is_divided_by_or_waited_for_may_be_zero() -> None:
    possible = set()
    for part, setting, kind in numbers():
        try:
            config.check(config_with(part, setting, kind(0)))
        except errors.ConfigError:
            continue
        possible.add(setting)
    assert possible == config._MAY_BE_ZERO


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_must_be_one(number: str) -> None:
    impossible = config.Config(ranges=config.RangesConfig(gc_ttl_s=float(number)))
    with pytest.raises(errors.ConfigError, match=rf"\[ranges\] gc_ttl_s is {number}"):
        config.check(impossible)


def test_a_frame_must_not_be_longer_than_its_header_can_say() -> None:
    config.check(config_with("net", "frame_bytes_max", (1 << 32) - 1))
    with pytest.raises(errors.ConfigError, match="must be at most 4294967295"):
        config.check(config_with("net", "frame_bytes_max", 1 << 32))


def test_every_part_has_its_own_table_and_only_plain_settings() -> None:
    for name, part in parts():
        assert part.__doc__, name
        for setting in msgspec.structs.fields(part):
            assert setting.type in (int, float, bool, str), f"[{name}] {setting.name}"


def test_sizes_and_times_name_their_units() -> None:
    units = ("_ms", "_s", "_bytes", "_ticks", "_max", "_min", "_factor")
    for name, part in parts():
        for setting in msgspec.structs.fields(part):
            if setting.type in (int, float):
                assert any(unit in setting.name for unit in units), f"[{name}] {setting.name}"
