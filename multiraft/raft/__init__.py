"""Consensus of one group: a pure state machine, fed by its host, that says what to do.

The life of one proposal: the host calls `RaftCore.propose` at the leader; the next `take_ready`
holds the entry to write and one append for each follower. Followers `step` the append; their Ready
holds the entry and, for after the sync, the answer. The leader counts answers and its own sync,
commits, and hands the entry out in `committed`; followers learn the commit index with the next
append. Nothing here reads a clock, a disk or a random number.

Start reading in core.py; dispatch.py lists which function takes which message; docs/architecture/
raft.md tells the rest.
"""
