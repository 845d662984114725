"""Times that somebody still reads at, and that garbage collection therefore leaves readable.

Purpose
    A `Protection` says: until `expires`, nothing goes that a read at `timestamp` or later sees. It
    is kept in the first range, under `keys.protection_key`.
How
    Whoever collects garbage reads all protections at one time `r`, and raises thresholds to no more
    than `r` less the time to live, nor to the timestamp of any of them that has not expired at `r`.
    So a protection written at `w` is kept if its timestamp is less than the time to live below `w`:
    who has read before `w`, and so has not seen it, stays below it however late it acts. One that
    takes the place of another before that has expired is kept as well: there was no `r` at which
    none of the two was seen. `is_kept` says both; what is not kept is refused.
Format
    A msgpack array: fields are only ever appended.
"""

import msgspec

from multiraft.ids import Timestamp


class Protection(msgspec.Struct, frozen=True, array_like=True):
    """See the module."""

    timestamp: Timestamp
    expires: Timestamp
    """On the cluster's clock; who still reads by then renews it before."""
    continues_until: Timestamp = Timestamp(0)
    """When the protection expires, of the same time or an earlier one, whose place it takes."""
    owner: str = ""
    """Who reads, as people are told."""

    def is_kept(self, written_at: Timestamp, time_to_live: Timestamp) -> bool:
        """Return whether no collector can miss it. `time_to_live` 0: nothing is collected."""
        return (
            not time_to_live
            or self.timestamp + time_to_live > written_at
            or self.continues_until >= written_at
        )


pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Protection).decode
