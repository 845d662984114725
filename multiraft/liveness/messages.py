"""What two stores say to each other about support and clocks.

Format
    msgpack arrays with integer tags: fields are only ever appended, tags never reused. They travel
    at the front of the frame between two nodes, which also carries the sender's HLC (rule L4).
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from multiraft.ids import Epoch, Timestamp

Microseconds = Annotated[int, Meta(gt=-(1 << 62), lt=1 << 62)]
"""Of which the difference of any two can be sent again."""


class SupportRequest(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Support me at `epoch` until `until`, a time of my clock. Answered by SupportReply."""

    epoch: Epoch
    until: Timestamp


class SupportReply(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """I support you at `epoch` until `until`; this is durable here.

    `until` 0 means that nothing is granted at `epoch`: the support at lower ones was withdrawn.
    """

    epoch: Epoch
    until: Timestamp


class ClockReading(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """My wall clock when I sent this, and how far yours is ahead of mine, at least.

    None when the sender has not heard of the receiver's clock lately. See offsets.py.
    """

    wall_us: Microseconds
    ahead_us_min: Microseconds | None


SupportMessage = SupportRequest | SupportReply
LivenessMessage = SupportRequest | SupportReply | ClockReading
