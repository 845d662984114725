"""What clients do while a cluster is hurt, and how it is judged: one small file each.

Life of a workload
    `set_up` prepares the keys; each client loops in `client` until its run is over; `finish`
    looks at everything once more when all is well again; `check` judges the history.

What is where
    register      single keys, linearizable
    counter       increments happen exactly once
    workload.py   the base, and what a client is given
    values.py     values that tell who wrote them
"""

from multiraft.testing.workloads.counter import CounterWorkload
from multiraft.testing.workloads.register import RegisterWorkload
from multiraft.testing.workloads.workload import ClientRun, Workload

AnyWorkload = CounterWorkload | RegisterWorkload
"""For decoding: the member `kind` says which."""

__all__ = ["AnyWorkload", "ClientRun", "Workload"]
