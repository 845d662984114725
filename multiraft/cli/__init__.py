"""The `multiraft` command: the database for people at a terminal and for scripts.

    app              the sub-commands, and how each of them may fail
    session          what every command shares: cluster, output, options
    failure          errors as one line and an exit code
    help_text        docstrings as help texts
    keytext, rows    keys and values as text; rows of files
    data             get, put, delete, increment, scan
    scripted, script operations of a file, or at a prompt, as one transaction
    prompt           lines as somebody types them
    load, export     rows in and out
    admin            status, ranges, split, transfer
    contention, txn  locks, and what transactions wait for
    serve            start and join: one node in this process
    local            a cluster of processes, run by cluster_process
    check            whether a recorded history can be
    sim, sim_runs    runs of the whole cluster in simulation
    torture          runs of real processes that are killed, stopped and cut off
    bench, demo      measured runs, with measure and workload

A command turns its arguments into calls of `multiraft.client`, and results into text or JSON on
standard output. Progress, remarks and errors go to standard error.
"""

from multiraft.cli.app import main

__all__ = ["main"]
