"""The turns of one store: at most one per loop iteration, for all replicas that have work together.

Purpose
    Whatever gives a replica work marks it dirty. One turn then handles all dirty replicas: take
    every Ready, send one frame per peer, write one engine batch, apply, answer, ask for one sync.
    So cost follows work: an idle range is not looked at.
Invariants
    - Messages of a turn that vouch for durability leave when the sync that covers its batch is
      done, and a sync releases exactly the Readys of the turns it covers; the others, all of a term
      that is durable here, leave before the batch is written (rules A1, S14).
    - Effects are written behind the entries of the same turn, in a batch of their own, while the
      disk syncs those or, on a follower, after that. Latches are released behind that, so nobody
      meets an effect that is not there; but who waits for nothing else than the write is answered
      before, since what is committed is certain to be applied.
    - Turns, and what a sync releases, come in slices: heartbeats never wait for all replicas.
    - A failed write or sync stops the store at once (rule S15).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from multiraft.ids import RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.raft.core import RaftCore
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from multiraft.ranges.apply_queue import ApplyQueue
from multiraft.ranges.commits_owed import CommitsOwed
from multiraft.ranges.inbox import Inbox
from multiraft.ranges.outbox import Outbox
from multiraft.ranges.replica import Replica
from multiraft.ranges.slices import SLICE_MAX
from multiraft.ranges.ticking import Ticking
from multiraft.ranges.turn import Turn
from multiraft.storage.engine import Engine


class Turns:
    """See the module. `guard` runs what no caller waits for, `fail` hears of a sync that failed."""

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        outbox: Outbox,
        ticking: Ticking,
        guard: Callable[[Callable[[], None]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._inbox = inbox
        self._outbox = outbox
        self._ticking = ticking
        self._guard = guard
        self._fail = fail
        self._dirty: dict[RangeId, Replica] = {}
        self._readys: list[tuple[Replica, RaftCore, Ready]] = []
        """Those that came with messages, for the next turn: their replicas need nothing else."""
        self._is_scheduled = False
        self.commits_owed = CommitsOwed(self.schedule, guard)
        self._applies = ApplyQueue()
        self._rest_is_scheduled = False
        """Whether replicas that put off to apply are about to."""
        self._endings: list[Callable[[], None]] | None = None
        self._unsynced: list[Turn] = []
        """Their batches are written, and are to be synced when the turn is over."""
        self._durable: deque[Turn] = deque()
        """Their batches are synced, and what waited for that is to be released."""
        self._released = 0
        """How many Readys were confirmed since the last turn."""
        self.taken = 0
        """How many turns there were."""
        self.syncs = 0

    # -- what others ask -------------------------------------------------------------------------

    def mark_dirty(self, replica: Replica) -> None:
        """The replica's core may have a Ready: include it in the next turn."""
        self._dirty[replica.range_id] = replica
        if not self._is_scheduled:
            self.schedule()

    def carry_out_soon(self, replica: Replica, ready: Ready) -> None:
        """Have the next turn carry out a Ready that was taken from the replica's core just now."""
        self._readys.append((replica, replica.core, ready))
        if not self._is_scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Have a turn soon, be it only for what is in the outbox."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._guard, self._take_turn)

    def at_the_end(self, action: Callable[[], None]) -> None:
        """Run `action` when all that is being told has been told: with the turn, or soon."""
        if self._endings is None:
            asyncio.get_running_loop().call_soon(action)
        else:
            self._endings.append(action)

    def staged_descriptors(self) -> list[RangeDescriptor]:
        """Return the spans of snapshots that the next turn installs: neither here nor there yet."""
        return [r.staged.state.descriptor for r in self._dirty.values() if r.staged is not None]

    def forget(self, replica: Replica) -> None:
        """The replica is gone."""
        self._dirty.pop(replica.range_id, None)
        self._applies.forget(replica.range_id)

    # -- the turn --------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        self._is_scheduled = False
        self._inbox.handled_at_once = 0
        self._released = 0
        dirty = self._next_dirty()
        turn = Turn(self._engine.new_batch())
        readys, self._readys = self._readys, []
        for replica, core, ready in readys:
            if not replica.destroyed and replica.core is core:
                replica.carry_out(turn, ready)
        for replica in dirty.values():
            if not replica.destroyed:
                replica.collect(turn)
        self.commits_owed.tell(turn)
        self._outbox.flush()  # Peers work while this store writes.
        if turn.is_to_be_synced:
            self._write(turn)
            rest = Turn(self._engine.new_batch())
        else:
            rest = turn  # Nobody waits for the one without the other.
        self._carry_on(rest, dirty, self._applies.admit(turn))
        self.taken += 1

    def _next_dirty(self) -> dict[RangeId, Replica]:
        """Remove and return those whose turn it is; if others are left, theirs is the next."""
        dirty = self._dirty
        if len(dirty) <= SLICE_MAX:
            self._dirty = {}
            return dirty
        self.schedule()
        return {range_id: dirty.pop(range_id) for range_id in list(islice(dirty, SLICE_MAX))}

    def _carry_on(
        self, turn: Turn, concerned: dict[RangeId, Replica], applying: Iterable[Replica]
    ) -> None:
        """Let `applying` apply in the batch of `turn`, then follow what `concerned` have become."""
        for replica in applying:
            replica.apply(turn)
        for replica in concerned.values():
            if not replica.destroyed:
                replica.follow_core()
        if turn.before_write:
            self._tell(turn.before_write)
        self._write(turn)
        if turn.after_write:
            self._tell(turn.after_write)
        for replica in concerned.values():
            self._ticking.follow(replica)
        self._outbox.flush()
        if self._unsynced:
            self._ask_for_sync()

    def _tell(self, actions: list[Callable[[], None]]) -> None:
        endings: list[Callable[[], None]] = []
        self._endings = endings
        for action in actions:
            action()
        self._endings = None
        for action in endings:
            action()

    def _write(self, turn: Turn) -> None:
        if turn.writes:
            self._engine.write(turn.batch)
        if turn.is_to_be_synced:
            self._unsynced.append(turn)

    def _ask_for_sync(self) -> None:
        """Have all that was written synced.

        The last thing to do: the thread that syncs needs the interpreter to begin, so asked before
        it would only wait, and be woken twice.
        """
        turns, self._unsynced = self._unsynced, []
        self.syncs += 1
        self._engine.sync(partial(self._synced, turns))

    # -- behind a sync ---------------------------------------------------------------------------

    def _synced(self, turns: list[Turn], error: BaseException | None) -> None:
        """The batches of `turns` are durable: what was waiting for that may go."""
        if error is not None:
            self._fail(error)
            return
        under_way = bool(self._durable)
        self._durable.extend(turns)
        if not under_way:
            self._guard(self._release)

    def _release(self) -> None:
        while self._durable and self._released < SLICE_MAX:
            turn = self._durable.popleft()
            self._confirm(turn)
            self._released += len(turn.to_sync)
        self._outbox.flush()
        if self._durable:
            asyncio.get_running_loop().call_soon(self._guard, self._release_rest)
        self._apply_rest_soon()  # Behind what other turns release that the same sync covers.

    def _release_rest(self) -> None:
        self._released = 0
        self._release()

    def _confirm(self, turn: Turn) -> None:
        for replica, core, ready in turn.to_sync:
            if replica.destroyed or replica.core is not core:
                continue
            core.synced(ready)
            if ready.messages_after_sync:
                replica.post(ready.messages_after_sync)
            if core.role is not Role.FOLLOWER and core.has_ready():
                self.mark_dirty(replica)
        for action in turn.synced:
            action()

    def _apply_rest_soon(self) -> None:
        if self._applies and not self._rest_is_scheduled:
            self._rest_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._guard, self._apply_rest)

    def _apply_rest(self) -> None:
        self._rest_is_scheduled = False
        rest = self._applies.take(SLICE_MAX)
        # What a follower is does not change by applying; after a trigger the next turn looks.
        led = {range_id: each for range_id, each in rest.items() if each.leaseholder is not None}
        self._carry_on(Turn(self._engine.new_batch()), led, rest.values())
        self._apply_rest_soon()
