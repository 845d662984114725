import itertools
import unicodedata
from collections import Counter

import msgspec
import pytest

from multiraft.cli.demo import characters
from multiraft.cli.demo.characters import SECTIONS, Character


@pytest.fixture(scope="module")
def everything() -> list[tuple[int, Character]]:
    return list(characters.all_characters())


def test_every_named_code_point_is_there_once_in_order(
    everything: list[tuple[int, Character]],
) -> None:
    points = [code_point for code_point, _ in everything]
    assert points == sorted(set(points))
    assert 130_000 < len(points) < 200_000
    by_point = dict(everything)
    assert by_point[0x1F600].name == "GRINNING FACE"
    assert by_point[0xAC00].name == "HANGUL SYLLABLE GA"
    assert by_point[0xBD].numeric == 0.5
    assert by_point[0xBD].decomposition == "<fraction> 0031 2044 0032"
    assert by_point[0x5D0].bidirectional == "R"
    assert 0xD800 not in by_point


def test_keys_sort_by_code_point(everything: list[tuple[int, Character]]) -> None:
    keys = [characters.key_of(code_point) for code_point, _ in everything]
    assert keys == sorted(keys)
    assert characters.key_of(0x1F600) == b"U+01F600"


def test_values_are_json_whose_revision_can_be_read(
    everything: list[tuple[int, Character]],
) -> None:
    for _, character in everything[::997]:
        value = characters.value_of(character, 12)
        assert characters.revision_of(value) == 12
        assert msgspec.json.decode(value)["name"] == character.name
        assert characters.value_of(character, 13) != value


def test_sections_begin_where_no_script_is_torn(everything: list[tuple[int, Character]]) -> None:
    sizes = Counter(characters.section_of(code_point) for code_point, _ in everything)
    assert len(sizes) == len(SECTIONS) == 8
    assert max(sizes.values()) == 42_720, "extension B is one block and cannot be cut"
    for before, section in itertools.pairwise(SECTIONS):
        assert characters.section_of(section.first) == characters.section_of(before.first) + 1
        assert characters.section_of(section.first - 1) == characters.section_of(before.first)
        assert section.first % 0x10 == 0, "blocks begin at multiples of sixteen"


def test_the_version_is_the_one_of_this_python() -> None:
    assert characters.version() == unicodedata.unidata_version
