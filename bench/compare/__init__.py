"""The product beside its peers, on one machine, in one run: `python -m bench.compare --help`.

Life of a run
    `__main__` reads the options. The `runner` takes every `peer` in turn, round after round, on a
    cluster of its own that holds the same rows; `peers` has a file for each of them. Callers are
    either Python (`closed_loop`) or, for etcd, a program in C (`etcd/client`). Every round becomes
    one of the `records`, a line in a file; `report` and `plot` make tables and a picture of that
    file, in the same run or any time later.

Caveats
    Servers and clients share the machine, so what a client costs its servers do not get. Compare
    figures within one run only, and look at their spread before their medians.
"""
