"""What a store shares with its replicas: the seams, the knobs, and a way to ask for a turn."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.config import Config
from multiraft.ids import NodeId
from multiraft.liveness.heartbeats import Liveness
from multiraft.model.hlc import HybridClock
from multiraft.model.requests import BatchReply
from multiraft.mvcc.newest import NewestVersions
from multiraft.mvcc.reader import EngineReader
from multiraft.runtime import Clock, Rng
from multiraft.storage.engine import Engine

if TYPE_CHECKING:
    from multiraft.ranges.pushes import Pushes
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.resolver import Resolver


RETRY_AFTER_MS = 20
"""When a client should send again what was refused because too much is under way."""


def overloaded(what: str) -> errors.OverloadedError:
    """Return why `what`, a range or a store, takes no more for the moment."""
    return errors.OverloadedError(what=what, retry_after_ms=RETRY_AFTER_MS)


class StoreContext:
    """One per store; replicas read it, only the store changes it."""

    pushes: "Pushes"
    """Works for those who wait in the lock tables: their observer. There once the store starts."""
    resolver: "Resolver"
    """Takes the intents of ended transactions. There once the store starts."""

    __slots__ = (
        "clock",
        "config",
        "engine",
        "hlc",
        "inflight_bytes",
        "liveness",
        "mark_dirty",
        "newest",
        "node_id",
        "pushes",
        "reader",
        "resolver",
        "rng",
        "wait_for_lease",
        "write_refusal",
    )

    def __init__(
        self,
        node_id: NodeId,
        engine: Engine,
        hlc: HybridClock,
        clock: Clock,
        rng: Rng,
        config: Config,
        liveness: Liveness,
        mark_dirty: "Callable[[Replica], None]",
        wait_for_lease: "Callable[[Replica, float], None]",
    ) -> None:
        self.node_id = node_id
        self.engine = engine
        self.reader = EngineReader(engine)
        self.newest = NewestVersions(config.ranges.newest_versions_max)
        self.hlc = hlc
        self.clock = clock
        self.rng = rng
        self.config = config
        self.liveness = liveness
        self.mark_dirty = mark_dirty
        """The replica's core may have a Ready: include it in the next turn."""
        self.wait_for_lease = wait_for_lease
        """The replica's leaseholder has requests to look at again when support changes."""
        self.inflight_bytes = 0
        """Payload bytes proposed on this store and not applied yet."""
        self.write_refusal: errors.MultiraftError | None = None
        """Why client writes are refused (disk nearly full), or None."""

    def refusal(self, error: errors.MultiraftError) -> BatchReply:
        """Return the reply that says `error`."""
        return BatchReply((), clock=self.hlc.last, error=errors.to_wire(error))
