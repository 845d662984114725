"""Clients that vanish: as kill -9 of an application, in the middle of whatever it does."""

import random
from functools import partial

from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault
from multiraft.testing.target import Target


class Vanish(Fault, frozen=True, tag="vanish", kw_only=True):
    """Ends a client before one of its next `within_callbacks` callbacks; another takes its place.

    Its transactions stay as they are, with all their locks, and nobody ever ends them.
    """

    within_callbacks: int = 60

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        alive = [name for name, process in cluster.mortals.items() if not process.is_dead]
        if not alive:
            return
        name = rng.choice(alive)
        left = rng.randrange(self.within_callbacks)
        self.note(target, f"{name} in {left} callbacks")
        countdown = iter(range(left, -1, -1))
        process = cluster.mortals[name]
        process.when(lambda: next(countdown, 0) == 0, partial(cluster.vanish, name))
