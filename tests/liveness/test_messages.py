"""The bytes on the wire."""

import msgspec
import pytest

from multiraft.ids import Epoch, Timestamp
from multiraft.liveness.messages import (
    ClockReading,
    LivenessMessage,
    SupportReply,
    SupportRequest,
)


@pytest.mark.parametrize(
    ("message", "golden"),
    [
        (SupportRequest(Epoch(3), Timestamp(300)), "93 01 03 cd012c"),
        (SupportReply(Epoch(3), Timestamp(300)), "93 02 03 cd012c"),
        (ClockReading(300, None), "93 03 cd012c c0"),
        (ClockReading(300, -2), "93 03 cd012c fe"),
    ],
)
def test_the_bytes_on_the_wire_stay_the_same(message: LivenessMessage, golden: str) -> None:
    encoded = msgspec.msgpack.encode(message)
    assert encoded == bytes.fromhex(golden)
    assert msgspec.msgpack.decode(encoded, type=LivenessMessage) == message


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63), 1 << 62, -(1 << 62)])
def test_a_clock_that_no_difference_can_be_told_of_is_not_decoded(number: int) -> None:
    for fields in ([3, number, None], [3, 300, number]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=LivenessMessage)
