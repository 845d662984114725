"""Stalls of a loop: how long they are, what they were spent on, and which are kept."""

from multiraft.cluster import stalls
from multiraft.cluster.instruments import Reading
from multiraft.cluster.stalls import Stall, Stalls

STAGES = frozenset({"cook", "wash"})
LOOK_S = 0.25


class Scene:
    """A clock and stages that go on when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.cpu_s = 0.0
        self.readings: dict[str, Reading] = {}
        self.stalls = Stalls(self, lambda: self.cpu_s, lambda: dict(self.readings), STAGES, "gc")

    def monotonic(self) -> float:
        return self.now_s

    def wall_us(self) -> int:
        return round(self.now_s * 1e6)

    def look(self, late_s: float, *, cpu_s: float = 0.0, **spent_s: float) -> None:
        self.now_s += LOOK_S + late_s
        self.cpu_s += cpu_s
        for stage, seconds in spent_s.items():
            before = self.readings.get(stage, Reading())
            self.readings[stage] = Reading(before.runs + 1, before.seconds + seconds)
        self.stalls.look(LOOK_S)


def test_a_loop_that_gives_turns_in_time_has_no_stalls() -> None:
    scene = Scene()
    scene.look(0.0, cpu_s=0.125, cook=0.125)
    scene.look(-0.125)
    assert scene.stalls.longest() == ()


def test_a_stall_tells_what_happened_since_the_look_before() -> None:
    scene = Scene()
    scene.look(0.0, cpu_s=9.0, wash=9.0, gc=9.0)
    scene.look(1.0, cpu_s=0.5, cook=0.75, wash=0.25, gc=0.125)
    assert scene.stalls.longest() == (
        Stall(
            at_us=1_500_000,
            us=1_000_000,
            loop_cpu_us=500_000,
            garbage_us=125_000,
            stage="cook",
            stage_us=750_000,
        ),
    )


def test_a_stall_outside_of_all_stages_names_none() -> None:
    scene = Scene()
    scene.look(0.0, cook=1.0)
    scene.look(1.0)
    [stall] = scene.stalls.longest()
    assert (stall.stage, stall.stage_us) == ("", 0)


def test_the_longest_are_kept() -> None:
    scene = Scene()
    lengths = [(7 * number) % 32 + 1 for number in range(32)]
    for length in lengths:
        scene.look(length / 8)
    found = [stall.us for stall in scene.stalls.longest()]
    assert found == [125_000 * length for length in range(32, 32 - stalls.KEPT_MAX, -1)]


def test_of_stalls_of_one_length_the_later_come_first() -> None:
    scene = Scene()
    for _ in range(stalls.KEPT_MAX):
        scene.look(1.0)
    ends = [stall.at_us for stall in scene.stalls.longest()]
    assert len(ends) == stalls.KEPT_MAX
    assert ends == sorted(ends, reverse=True)
