"""Python's garbage collector does not look again at what has lived long and goes on to.

Purpose
    A full collection looks at every object that may be part of a cycle, which is dozens for each
    replica, and nothing else runs meanwhile: with thousands of ranges that is longer than leases
    bear. So what a node has when it starts is frozen: the collector passes it by. When replicas
    have grown in number, what is left by the next full collection is frozen as well.
Invariants
    - What is frozen is freed as ever when the last reference to it goes. Only what becomes garbage
      in a cycle later on is kept for good, so freezing is rare: once for each growth by a share.
    - When replicas have become fewer by a share, everything is looked at once more.
Ownership
    The collector belongs to the process: only one that is a node and nothing else has this.
"""

import gc
from collections.abc import Callable

SHARE = 0.05
REPLICAS_MIN = 100
"""Of fewer, nobody notices a full collection."""
_FULL = 2


class Settled:
    """See the module. `replicas` tells how many there are; `call_soon`, of any thread, the loop."""

    def __init__(
        self,
        replicas: Callable[[], int],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._replicas = replicas
        self._call_soon = call_soon
        self._frozen_at = 0

    def start(self) -> None:
        """Freeze what there is, and look after each full collection whether there is more."""
        self._freeze()
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        """Leave the collector as it was found."""
        gc.callbacks.remove(self._collected)
        gc.unfreeze()

    def _collected(self, phase: str, information: dict[str, int]) -> None:
        if phase == "stop" and information["generation"] == _FULL:
            replicas = self._replicas()
            if replicas > self._frozen_at * (1 + SHARE) + REPLICAS_MIN:
                self._call_soon(self._freeze)
            elif replicas < self._frozen_at * (1 - SHARE) - REPLICAS_MIN:
                self._call_soon(self._look_again)

    def _freeze(self) -> None:
        self._frozen_at = self._replicas()
        gc.freeze()
        # Of what is left, which is little. The collector puts a full collection off until there is
        # a quarter more than the last one left: from now on it compares with this one.
        gc.collect()

    def _look_again(self) -> None:
        gc.unfreeze()
        gc.collect()
        self._freeze()
