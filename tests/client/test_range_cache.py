from hypothesis import given
from hypothesis import strategies as st

from multiraft.client.range_cache import RangeCache
from multiraft.ids import NodeId, RangeId, ReplicaId
from multiraft.model import keys
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor


def descriptor(
    range_id: int, start: bytes, end: bytes, generation: int = 1, nodes: tuple[int, ...] = (1, 2, 3)
) -> RangeDescriptor:
    replicas = tuple(ReplicaDescriptor(NodeId(n), ReplicaId(n)) for n in nodes)
    return RangeDescriptor(RangeId(range_id), start, end, generation, replicas, ReplicaId(9))


def found_id(cache: RangeCache, key: bytes) -> int | None:
    found = cache.lookup(key)
    return None if found is None else found.range_id


def test_lookup_finds_the_range_that_holds_the_key() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"h"))
    cache.insert(descriptor(3, b"p", b"t"))
    looked_up = [found_id(cache, k) for k in (b"c", b"d", b"gzz", b"h", b"o", b"p", b"s", b"t")]
    assert looked_up == [None, 2, 2, None, None, 3, 3, None]


def test_lookup_before_finds_the_range_below_a_boundary() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"h"))
    cache.insert(descriptor(3, b"h", b"t"))
    looked_up = [cache.lookup_before(end) for end in (b"d", b"da", b"h", b"ha", b"t", b"ta")]
    assert [r and r.range_id for r in looked_up] == [None, 2, 2, 3, 3, None]


def test_an_older_generation_does_not_replace_a_newer_one() -> None:
    cache = RangeCache(10)
    newer = cache.insert(descriptor(2, b"d", b"h", generation=5))
    assert cache.insert(descriptor(2, b"d", b"z", generation=4)) is newer
    assert cache.insert(descriptor(2, b"d", b"z", generation=5)) is newer
    assert found_id(cache, b"p") is None


def test_a_right_half_is_found_though_the_left_half_is_still_known_whole() -> None:
    cache = RangeCache(10)
    left = cache.insert(descriptor(2, b"d", b"z", generation=7))
    cache.insert(descriptor(3, b"m", b"z", generation=1))
    assert [found_id(cache, k) for k in (b"d", b"l", b"m", b"y")] == [2, 2, 3, 3]
    assert cache.end_of(left) == b"m"
    before = cache.lookup_before(b"m")
    assert before is left


def test_a_left_half_learned_late_does_not_hide_the_right_half() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(3, b"m", b"z", generation=1))
    cache.insert(descriptor(2, b"d", b"z", generation=7))
    assert [found_id(cache, k) for k in (b"d", b"m")] == [2, 3]


def test_a_right_half_is_led_by_whom_led_the_whole() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"z")).leader = NodeId(2)
    assert cache.insert(descriptor(3, b"m", b"z")).leader == 2
    assert cache.insert(descriptor(4, b"s", b"z", nodes=(4, 5))).leader is None


def test_a_right_half_that_is_learned_after_the_left_one_is_led_by_its_leader() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"z")).leader = NodeId(2)
    cache.insert(descriptor(2, b"d", b"m", generation=2))
    assert cache.insert(descriptor(3, b"m", b"z")).leader == 2
    assert cache.insert(descriptor(4, b"zz", b"zzz")).leader is None, "a gap tells nothing"


def test_a_new_descriptor_keeps_the_leader_only_if_it_still_has_a_replica() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"z")).leader = NodeId(2)
    assert cache.insert(descriptor(2, b"d", b"z", 2, nodes=(2, 4))).leader == 2
    assert cache.insert(descriptor(2, b"d", b"z", 3, nodes=(4, 5))).leader is None


def test_the_cache_is_bounded_and_never_drops_the_first_range() -> None:
    cache = RangeCache(3)
    cache.insert(descriptor(1, keys.MIN, b"a"))
    for number in range(10):
        cache.insert(descriptor(2 + number, b"b%d" % number, b"b%d" % (number + 1)))
    assert len(cache) == 3
    assert [d.range_id for d in cache.descriptors()] == [1, 10, 11]


def test_another_range_at_the_same_start_replaces_the_one_there() -> None:
    cache = RangeCache(10)
    cache.insert(descriptor(2, b"d", b"h"))
    cache.insert(descriptor(3, b"d", b"z"))
    assert found_id(cache, b"e") == 3
    assert cache.by_id(RangeId(2)) is None


# A history of splits of [0, 256): at each step, the key at which to split.
histories = st.lists(st.integers(1, 255), max_size=20, unique=True)


@given(histories, st.data())
def test_lookup_returns_the_newest_of_what_was_learned(
    cuts: list[int], data: st.DataObject
) -> None:
    """Whatever is learned in whatever order, a key leads to the newest holder, or nowhere."""
    current = [descriptor(1, b"\x00", b"\xff\xff")]
    told: list[tuple[int, RangeDescriptor]] = [(0, current[0])]
    for time, cut in enumerate(cuts, start=1):
        key = bytes([cut])
        left = next(d for d in current if d.contains(key))
        current.remove(left)
        halves = [
            descriptor(left.range_id, left.start, key, left.generation + 1),
            descriptor(time + 1, key, left.end),
        ]
        current += halves
        told += [(time, half) for half in halves]
    learned = data.draw(st.lists(st.sampled_from(told), max_size=40))
    cache = RangeCache(1_000)
    for _, something in learned:
        cache.insert(something)
    newest = {d.range_id: d for _, d in sorted(learned, key=lambda item: item[1].generation)}
    for probe in range(256):
        key = bytes([probe])
        found = cache.lookup(key)
        holding = [(t, d) for t, d in told if newest.get(d.range_id) == d and d.contains(key)]
        if found is not None:
            assert found.descriptor == max(holding, key=lambda item: item[0])[1]
        truth = next((d for d in current if d.contains(key)), None)
        if truth is not None and newest.get(truth.range_id) == truth:
            assert found is not None, "what is up to date is found"
            assert found.descriptor == truth


def test_who_led_a_range_last_is_the_likeliest_of_its_nodes() -> None:
    cache = RangeCache(10)
    unknown = descriptor(2, b"d", b"h")
    assert cache.likeliest_first(unknown) == [1, 2, 3]
    cache.insert(unknown)
    assert cache.likeliest_first(unknown) == [1, 2, 3]
    cache.set_leader(RangeId(2), NodeId(3))
    assert cache.likeliest_first(unknown) == [3, 1, 2]
