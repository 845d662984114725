"""Links that work badly: slow, now and then very slow, narrow, or losing their connections."""

import random

from multiraft.sim.cluster import Cluster
from multiraft.sim.network import Delay, Trouble
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

Pair = tuple[str, str]


def _draw_pairs(cluster: Cluster, rng: random.Random, *, with_clients: bool) -> list[Pair] | None:
    """Return one direction, all directions of one node, or None: all there are."""
    nodes = [member.name for member in cluster.members.values()]
    names = nodes + (list(cluster.client_names) if with_clients else [])
    choice = rng.random()
    if choice < 0.2 and with_clients:
        return None
    node = rng.choice(nodes)
    others = [name for name in names if name != node]
    if choice < 0.5 and others:
        other = rng.choice(others)
        return [rng.choice([(node, other), (other, node)])]
    return [pair for other in others for pair in ((node, other), (other, node))]


class _Links(Fault, frozen=True, kw_only=True):
    """What the faults of this module share."""

    lasts_s: Seconds = (0.5, 5.0)
    with_clients: bool = True
    """Whether the links of clients are hurt, too."""

    needs_simulation = True

    def trouble(self, pairs: list[Pair] | None, rng: random.Random) -> Trouble:
        """Return what is wrong with them, this time."""
        raise NotImplementedError

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        pairs = _draw_pairs(cluster, rng, with_clients=self.with_clients)
        trouble = self.trouble(pairs, rng)
        troubles = cluster.conditions.troubles

        async def heal() -> None:
            del troubles[trouble]

        told = "all links" if pairs is None else " ".join(f"{a}->{b}" for a, b in pairs)
        self.note(target, told)
        async with Wounds(target) as wounds:
            wounds.add(heal)
            troubles[trouble] = None
            await target.sleep(rng.uniform(*self.lasts_s))


class SlowLinks(_Links, frozen=True, tag="slow-links", kw_only=True):
    """Every frame takes long, and not always as long."""

    delay_s: Seconds = (0.005, 0.3)
    jitter_share: float = 0.3

    def trouble(self, pairs: list[Pair] | None, rng: random.Random) -> Trouble:
        """See _Links."""
        least_s = rng.uniform(*self.delay_s)
        return Trouble(pairs, delay=Delay(least_s, least_s * self.jitter_share))


class HeavyTail(_Links, frozen=True, tag="heavy-tail", kw_only=True):
    """Most frames are as fast as ever, a few take seconds, and all behind them."""

    tail_chance: float = 0.02
    tail_s: float = 1.0

    def trouble(self, pairs: list[Pair] | None, rng: random.Random) -> Trouble:
        """See _Links."""
        return Trouble(pairs, delay=Delay(tail_chance=self.tail_chance, tail_s=self.tail_s))


class NarrowLinks(_Links, frozen=True, tag="narrow-links", kw_only=True):
    """Links carry few bytes a second."""

    bytes_per_s: tuple[float, float] = (20_000.0, 1_000_000.0)

    def trouble(self, pairs: list[Pair] | None, rng: random.Random) -> Trouble:
        """See _Links."""
        return Trouble(pairs, delay=Delay(bytes_per_s=rng.uniform(*self.bytes_per_s)))


class Loss(_Links, frozen=True, tag="loss", kw_only=True):
    """A share of what is sent is lost, and the connection breaks with it."""

    share: tuple[float, float] = (0.001, 0.1)

    def trouble(self, pairs: list[Pair] | None, rng: random.Random) -> Trouble:
        """See _Links."""
        return Trouble(pairs, loss=rng.uniform(*self.share))


class ResetClients(Fault, frozen=True, tag="reset-clients", kw_only=True):
    """Breaks every connection of one node, those of clients too, losing what travels."""

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        for number in victims.draw(target, rng):
            self.note(target, f"n{number}")
            cluster.network.break_all_connections(f"n{number}")
