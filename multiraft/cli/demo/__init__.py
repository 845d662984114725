"""`multiraft demo`: a three-node cluster that is loaded, split under load, hurt, and checked.

    characters   the data: the Unicode Character Database, and where it is split
    workload     readers and writers that know what every row must hold
    phases       what is done, one function a phase; returns what it measured
    report       the same as structs for `--json` and as tables for people
    command      the command: sets up, runs the phases in order, leaves nothing behind

Everything that is shown was measured in that run.
"""
