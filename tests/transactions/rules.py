"""The rules of the protocol that can be left out, to see what they are good for."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Each true: the protocol as it is. Each one false: a protocol that loses or invents writes."""

    writes_stay_above_reads: bool = True
    """An intent is laid above the latest read of its key (the timestamp cache)."""
    own_intent_answers: bool = True
    """A write that finds its own intent of the same sequence, or a later one, lays nothing."""
    own_version_answers: bool = True
    """A write that finds a version with its own ID lays nothing."""
    staging_never_goes_back: bool = True
    """A late STAGING does not replace one with a higher timestamp."""
    record_once_final_stays: bool = True
    """No request changes COMMITTED or ABORTED."""
    record_outlives_intents: bool = True
    """A record is removed only when no intent of its transaction is left."""
    collected_is_not_created_again: bool = True
    """At or below the GC threshold no record but ABORTED is made (rule S18)."""
    collected_is_not_known_aborted: bool = True
    """A coordinator that asks for its end below the GC threshold is not told ABORTED."""
    push_leaves_staging: bool = True
    """A push changes neither STAGING to PENDING nor to ABORTED."""
    push_looks_for_the_version: bool = True
    """A push of what 1PC has committed finds the version at the anchor, and writes no record."""
    push_makes_no_record_of_the_collected: bool = True
    """A push below the GC threshold answers ABORTED, but leaves nothing that others believe."""
    heartbeat_leaves_staging: bool = True
    """A heartbeat makes PENDING only where there is no record."""
    pushed_lies_above_the_reader: bool = True
    """Who is pushed for a reader commits above its timestamp, not at it (rule S11)."""
    staging_heeds_the_push: bool = True
    """No STAGING below the timestamp of PENDING."""
    query_prevents: bool = True
    """Recovery raises the timestamp cache at a missing write before it says so (rule A9)."""
    proof_needs_the_sequence: bool = True
    """An intent proves only a STAGING that names its sequence (rule A9)."""
    proof_needs_the_timestamp: bool = True
    """An intent above the staging timestamp proves nothing (rule A9)."""
    recovery_needs_the_timestamp: bool = True
    """A recovery decides only the very STAGING that it looked at."""
    recovery_asks_for_all: bool = True
    """A recovery commits only if every write of the record was found."""
    commit_after_all_answers: bool = True
    """The coordinator answers its caller only when all writes lie at or below STAGING."""
    end_looks_for_the_version: bool = True
    """Who ends a 1PC commit of unknown fate is told of the version at the anchor (rule S9)."""
    end_before_the_next_attempt: bool = True
    """A closure is run again only after the old ID has a definite end (rule S9)."""
    one_phase_looks_at_the_record: bool = True
    """1PC is refused if an ABORTED record of its ID is there (rule S9)."""
    abort_needs_the_failed_staging: bool = True
    """Roll-back ends STAGING only at the timestamp that its coordinator knows to have failed."""
    reads_wait_for_intents: bool = True
    """A read does not pass an intent at or below its timestamp."""


RULES = Rules()

NAMES = tuple(field.name for field in fields(Rules))
