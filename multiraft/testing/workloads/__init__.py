"""What clients do while a cluster is hurt, and how it is judged: one small file each.

Life of a workload
    `set_up` prepares the keys; each client loops in `client` until its run is over; `finish`
    looks at everything once more when all is well again; `check` judges the history.

What is where
    register      single keys, linearizable
    freshness     reads are never older than what was known, cheaply
    counter       increments happen exactly once
    conditional   writes that write nothing give definite answers
    sets          keys are not lost and do not come back
    scans         no key is missed or given twice, all are of one moment
    batches       all or nothing within one range
    past          a read at a time finds the same however late
    bank, cycle, list-append
                  what is atomic within one range, or on one key
    transfers, rings, lists
                  the same by transactions over any ranges
    write-skew, long-fork, rooms
                  what weaker levels than serializable allow
    crossings     the same between batches and transactions
    locks         deadlocks, all the time
    workload.py   the base, and what a client is given
    values.py, groups.py, growing.py
                  parts that they share
    scan_rows.py  the judge of `scans`
"""

from multiraft.testing.workloads.bank import BankWorkload
from multiraft.testing.workloads.batches import BatchesWorkload
from multiraft.testing.workloads.conditional import ConditionalWorkload
from multiraft.testing.workloads.counter import CounterWorkload
from multiraft.testing.workloads.crossings import CrossingsWorkload
from multiraft.testing.workloads.cycle import CycleWorkload
from multiraft.testing.workloads.freshness import FreshnessWorkload
from multiraft.testing.workloads.list_append import ListAppendWorkload
from multiraft.testing.workloads.lists import ListsWorkload
from multiraft.testing.workloads.locks import LocksWorkload
from multiraft.testing.workloads.long_fork import LongForkWorkload
from multiraft.testing.workloads.past import PastWorkload
from multiraft.testing.workloads.register import RegisterWorkload
from multiraft.testing.workloads.rings import RingsWorkload
from multiraft.testing.workloads.rooms import RoomsWorkload
from multiraft.testing.workloads.scans import ScansWorkload
from multiraft.testing.workloads.sets import SetsWorkload
from multiraft.testing.workloads.transfers import TransfersWorkload
from multiraft.testing.workloads.workload import ClientRun, Workload
from multiraft.testing.workloads.write_skew import WriteSkewWorkload

AnyWorkload = (
    BankWorkload
    | BatchesWorkload
    | ConditionalWorkload
    | CounterWorkload
    | CrossingsWorkload
    | CycleWorkload
    | FreshnessWorkload
    | ListAppendWorkload
    | PastWorkload
    | RegisterWorkload
    | ScansWorkload
    | SetsWorkload
    | ListsWorkload
    | LocksWorkload
    | LongForkWorkload
    | RingsWorkload
    | RoomsWorkload
    | TransfersWorkload
    | WriteSkewWorkload
)
"""For decoding: the member `kind` says which."""

__all__ = ["AnyWorkload", "ClientRun", "Workload"]
