"""What goes wrong: one small file per family of faults, each fault with its settings.

A fault is one class and its TOML table; docs/faults.md lists them. `fault` says what an episode is
and how it heals, `victims` whom it hurts. Faults run at the same time and know nothing of each
other: each takes the cluster as it finds it and leaves behind nothing that it did.
"""

from typing import get_args

from multiraft.testing.faults.clocks import (
    ClockDrift,
    ClockJump,
    ClockOffset,
    ClockStrobe,
    CoarseClock,
)
from multiraft.testing.faults.cuts import (
    Bridge,
    CutOffLeader,
    Isolate,
    IsolateLeader,
    OneWayCut,
    PartialCut,
    Partition,
    Reset,
    ResetStorm,
    Ring,
    SwizzleClog,
)
from multiraft.testing.faults.disks import (
    BitRot,
    FullDisk,
    PowerCut,
    SlowSyncs,
    StalledSyncs,
    SyncError,
    WriteError,
)
from multiraft.testing.faults.fault import Fault
from multiraft.testing.faults.freezes import Freeze, FreezeAll, FreezeLeader, FreezeTwo
from multiraft.testing.faults.kill_at_step import KillAtStep
from multiraft.testing.faults.kills import (
    KillAfterSplit,
    KillAll,
    KillHost,
    KillLeader,
    KillMajority,
    KillMinority,
    KillOne,
    RestartStorm,
)
from multiraft.testing.faults.late_requests import LateRequests
from multiraft.testing.faults.links import HeavyTail, Loss, NarrowLinks, ResetClients, SlowLinks
from multiraft.testing.faults.operations import ChangeReplicas, Split, Transfer
from multiraft.testing.faults.split_under_snapshot import SplitUnderSnapshot
from multiraft.testing.faults.stale_tail import StaleTail
from multiraft.testing.faults.supporters import RestartSupporters
from multiraft.testing.faults.swap_supporter import SwapSupporter
from multiraft.testing.faults.vanishing import Vanish

AnyFault = (
    KillOne
    | KillLeader
    | KillHost
    | KillMinority
    | KillMajority
    | KillAll
    | KillAtStep
    | KillAfterSplit
    | RestartStorm
    | RestartSupporters
    | Freeze
    | FreezeLeader
    | FreezeTwo
    | FreezeAll
    | Isolate
    | IsolateLeader
    | CutOffLeader
    | Partition
    | OneWayCut
    | PartialCut
    | Bridge
    | Ring
    | SwizzleClog
    | Reset
    | ResetStorm
    | ResetClients
    | LateRequests
    | Vanish
    | SlowLinks
    | HeavyTail
    | NarrowLinks
    | Loss
    | SlowSyncs
    | StalledSyncs
    | WriteError
    | SyncError
    | FullDisk
    | BitRot
    | PowerCut
    | ClockOffset
    | ClockDrift
    | ClockStrobe
    | CoarseClock
    | ClockJump
    | Split
    | Transfer
    | ChangeReplicas
    | SwapSupporter
    | StaleTail
    | SplitUnderSnapshot
)
"""What a `[[fault]]` table may be, told by its `kind`."""

ALL: tuple[type[Fault], ...] = get_args(AnyFault)

__all__ = ["ALL", "AnyFault", "Fault"]
