"""The setups that are explored, and what each is for."""

from tests.transactions.clients import Setup

SETUPS = {
    # Parallel commit, left at any point; recovery; a reader that pushes intents up.
    "parallel": Setup(reads_at=(1, 2)),
    # Two recoveries get into each other's way, and into that of the coordinator.
    "rivals": Setup(pushers=2, reads_at=(1,)),
    # Staging is tried at three timestamps.
    "restaged": Setup(restages_max=2, has_heartbeat=True, reads_at=(1, 2), reader_pushes=True),
    # Intents are laid early, one is replaced by the commit, their late duplicates come back.
    "pipelined": Setup(is_pipelined=True, reads_at=(1,), reader_pushes=True),
    # One phase, with lost replies, an end at the anchor, and a split in between.
    "one-phase": Setup(is_one_phase=True, has_heartbeat=True, reads_at=(1, 2)),
    # Records are collected while requests are still under way.
    "collected": Setup(has_heartbeat=True, reads_at=(1,), collects=True),
    "one-phase-collected": Setup(is_one_phase=True, reads_at=(1,), collects=True),
}
