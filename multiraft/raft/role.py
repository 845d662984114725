"""The four roles of a replica in its group (paper figure 4; thesis 9.6 adds the pre-candidate)."""

import enum


class Role(enum.IntEnum):
    """What a replica is at the moment."""

    FOLLOWER = 0
    """Learners are followers too: what they may not do follows from the configuration."""
    PRE_CANDIDATE = 1
    """Asks whether it would win, without raising its term."""
    CANDIDATE = 2
    LEADER = 3
