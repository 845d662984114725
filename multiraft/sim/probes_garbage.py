"""Rare situations of garbage collection, and of reads that last or reach into the past."""

from multiraft import errors
from multiraft.sim.probing import Called, Probe, Raised, Refused

_PASS = "multiraft.ranges.garbage:GarbagePass."

PROBES: tuple[Probe, ...] = (
    Probe(
        "versions removed",
        "no read above the threshold sees a difference",
        Called("multiraft.ranges.garbage:Removal.applied"),
    ),
    Probe(
        "garbage pass ended early",
        "it may end anywhere: with its term, or a split",
        Raised(_PASS + "run", errors.NotLeaseholderError),
    ),
    Probe(
        "split counted while versions were removed",
        "each half gets its share of the statistics",
        Called(
            "multiraft.ranges.garbage:Removal.applied",
            before=lambda removal: bool(removal._holder.observers),
        ),
    ),
    Probe(
        "records removed",
        "rule S18: they are final, and what they name is resolved",
        Called(_PASS + "_remove_records"),
    ),
    Probe(
        "old locks met by nobody",
        "garbage collection pushes who has left them",
        Called(
            "multiraft.ranges.leftovers:resolve_intents", before=lambda _, intents: bool(intents)
        ),
    ),
    Probe(
        "threshold held down",
        "somebody protects a time that is older than versions live",
        Called(
            "multiraft.ranges.protections:ceiling",
            after=lambda ceiling, at, _, time_to_live: ceiling < at - time_to_live,
        ),
    ),
    Probe(
        "protection expired",
        "whoever wrote it is gone",
        Called(
            "multiraft.ranges.protections:ceiling",
            before=lambda at, found, _: any(each.protection.expires < at for each in found),
        ),
    ),
    Probe("refused: read too old", "what was there may be gone", Refused(errors.ReadTooOldError)),
    Probe(
        "scan met what may be older than it",
        "rule S19: it must not be missed",
        Called("multiraft.client.scan_time:ScanTime.move_to"),
    ),
)
