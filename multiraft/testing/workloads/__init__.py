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
    bank, cycle, list-append
                  what transactions will be judged by, as far as single ranges and keys carry it
    workload.py   the base, and what a client is given
    values.py, groups.py
                  parts that they share
    scan_rows.py  the judge of `scans`
"""

from multiraft.testing.workloads.bank import BankWorkload
from multiraft.testing.workloads.batches import BatchesWorkload
from multiraft.testing.workloads.conditional import ConditionalWorkload
from multiraft.testing.workloads.counter import CounterWorkload
from multiraft.testing.workloads.cycle import CycleWorkload
from multiraft.testing.workloads.freshness import FreshnessWorkload
from multiraft.testing.workloads.list_append import ListAppendWorkload
from multiraft.testing.workloads.register import RegisterWorkload
from multiraft.testing.workloads.scans import ScansWorkload
from multiraft.testing.workloads.sets import SetsWorkload
from multiraft.testing.workloads.workload import ClientRun, Workload

AnyWorkload = (
    BankWorkload
    | BatchesWorkload
    | ConditionalWorkload
    | CounterWorkload
    | CycleWorkload
    | FreshnessWorkload
    | ListAppendWorkload
    | RegisterWorkload
    | ScansWorkload
    | SetsWorkload
)
"""For decoding: the member `kind` says which."""

__all__ = ["AnyWorkload", "ClientRun", "Workload"]
