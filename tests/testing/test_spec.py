"""What a spec may say, beyond those that come with the package."""

from pathlib import Path

import pytest

from multiraft import errors
from multiraft.testing import spec

GOOD = """
name = "mine"
about = "To find nothing."
link = "wan"
clock_offset_ms = 0
[[workload]]
kind = "register"
think_s = 0.5
"""


def test_a_spec_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    assert spec.load(str(file)).link == "wan"


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ('link = "wan"', 'link = "moon"', "Invalid enum value 'moon' - at `$.link`"),
        ("clock_offset_ms = 0", "clock_offset_ms = -1", ">= 0 - at `$.clock_offset_ms`"),
        ("think_s = 0.5", "think_s = 0.0", "> 0.0 - at `$.workload[0].think_s`"),
    ],
)
def test_a_setting_that_no_run_can_have_is_refused_with_its_place(
    tmp_path: Path, right: str, wrong: str, reason: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace(right, wrong))
    with pytest.raises(errors.ConfigError, match=r"mine\.toml: ") as caught:
        spec.load(str(file))
    assert reason in str(caught.value)
