"""The command `torture`: workloads, faults and checkers of simulation against real processes.

Life of a run
    A new cluster of node processes is made in a directory of its own (`run`). Clients work while
    the faults of a spec hurt it through `target`; ways between nodes are cut by `proxy`, as `cuts`
    says. Everything is healed; every call under way must end; all replicas must come to be equal,
    first by what they tell, then by what the killed nodes have on disk (`replicas`); the histories
    are judged by the checkers of simulation. `command` does that over and over, tells how it goes,
    and keeps what failed (`evidence`).

Caveats
    The seed decides what clients ask and which faults come, in which order and for how long. What
    threads, disks and sockets do in between is the machine's, so a run is not repeated exactly: the
    saved history is the evidence.
"""
