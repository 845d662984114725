"""A spec: which clients, which faults, for how long. A TOML file that a person can read.

Purpose
    Combine workloads and faults by name, with their settings, into one experiment that any seed
    repeats. The specs that come with the package are found by name, others by path.
Format
    Keys of `Spec` at the top; `[[workload]]` and `[[fault]]` tables with `kind` and the settings of
    that kind; `[config.PART]` tables for settings of config.py.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from multiraft import config as configuration
from multiraft import errors
from multiraft.config import Config
from multiraft.model import locality
from multiraft.sim import footprint
from multiraft.sim.cluster import FAST
from multiraft.sim.wiretap import HONEST, Tricks
from multiraft.testing.faults import AnyFault
from multiraft.testing.workloads import AnyWorkload

DIRECTORY = Path(__file__).parent / "specs"


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment; a seed makes it a run."""

    name: str
    about: str
    """What it is to find, in a sentence."""
    workload: Annotated[tuple[AnyWorkload, ...], msgspec.Meta(min_length=1)]
    fault: tuple[AnyFault, ...] = ()
    nodes: Annotated[int, msgspec.Meta(ge=1)] = 3
    localities: tuple[str, ...] = ()
    """Where each node is, such as "host=a"; no range may have two voters on one host in the end, if
    there are hosts enough."""
    seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """How long clients work under faults; what follows is healed and judged."""
    rounds: Annotated[int, msgspec.Meta(ge=1)] = 1
    """How often that happens, in one cluster, with keys that are removed after each round."""
    splits: tuple[str, ...] = ()
    """Where ranges begin from the start."""
    link: Literal["at-once", "lan", "wan"] = "lan"
    """What a link without faults does."""
    clock_offset_ms: Annotated[int, msgspec.Meta(ge=0)] = 10
    """Each node's clock is off by up to this much, either way."""
    buggify: bool = True
    messages: Tricks = HONEST
    """How likely a Raft message is lost, comes twice, or late."""
    lose_nodes: bool = True
    """Whether, when the faults are over, some nodes stay away until all others have recovered."""
    bounds: dict[str, int] = {}
    """How much may be held at the end of each round, by the names of sim/footprint.py."""
    no_elections: bool = False
    """Whether a leader that is not the first of its range is a violation."""
    no_snapshots: bool = False
    """Whether a snapshot sent at all is a violation."""
    config: dict[str, dict[str, Any]] = {}

    def base_config(self) -> Config:
        """Return the settings before any are drawn. Raises ConfigError."""
        given = msgspec.to_builtins(FAST)
        for part, settings in self.config.items():
            if part not in given:
                raise errors.ConfigError(f"{self.name}: config.py has no part named {part!r}")
            unknown = sorted(set(settings) - set(given[part]))
            if unknown:
                raise errors.ConfigError(f"{self.name}: [{part}] has no setting {unknown[0]!r}")
            given[part] |= settings
        made = msgspec.convert(given, Config)
        configuration.check(made)
        return made


def names() -> list[str]:
    """Return the names of the specs that come with the package."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name_or_path: str) -> Spec:
    """Read a spec. Raises ConfigError that says what is wrong, and where."""
    path = DIRECTORY / f"{name_or_path}.toml"
    if not path.exists():
        path = Path(name_or_path)
    try:
        spec = msgspec.toml.decode(path.read_bytes(), type=Spec)
        spec.base_config()
    except FileNotFoundError:
        raise errors.ConfigError(
            f"there is no spec {name_or_path!r}, neither a file nor one of: {', '.join(names())}"
        ) from None
    except ValueError as error:  # of msgspec, or bytes that are no text
        raise errors.ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise errors.ConfigError(f"{path} cannot be read: {error.strerror}") from None
    unknown = sorted(set(spec.bounds) - set(footprint.NAMES))
    if unknown:
        raise errors.ConfigError(
            f"{spec.name}: bounds has no {unknown[0]!r}, but: {', '.join(footprint.NAMES)}"
        )
    for where in spec.localities:
        locality.parse(where)
    if spec.localities and len(spec.localities) != spec.nodes:
        raise errors.ConfigError(
            f"{spec.name}: {len(spec.localities)} localities are given for {spec.nodes} nodes"
        )
    return spec
