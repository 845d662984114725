from bench.compare.etcd import bodies
from bench.compare.peer import Data, Operation

DATA = Data(keys=200, value_bytes=2)


def test_a_put_is_its_key_and_value() -> None:
    assert bodies.put(b"k", b"vv") == b"\x0a\x01k\x12\x02vv"


def test_a_long_field_has_a_length_of_two_bytes() -> None:
    assert bodies.put(b"", bytes(300)) == b"\x0a\x00\x12\xac\x02" + bytes(300)


def test_a_get_leaves_end_and_limit_out() -> None:
    assert bodies.key_range(b"k") == b"\x0a\x01k"


def test_a_scan_has_an_end_and_a_limit() -> None:
    assert bodies.key_range(b"a", b"z", 1_000) == b"\x0a\x01a\x12\x01z\x18\xe8\x07"


def test_a_transaction_holds_puts_to_be_made_if_its_conditions_hold() -> None:
    assert bodies.txn([b"\x0a\x01k", b"\x0a\x01l"]) == (
        b"\x12\x05\x12\x03\x0a\x01k" + b"\x12\x05\x12\x03\x0a\x01l"
    )


def test_a_body_begins_with_no_compression_and_its_length() -> None:
    assert bodies.framed(bytes(258)) == b"\x00\x00\x00\x01\x02" + bytes(258)


def test_every_key_is_used_once_before_any_is_used_again() -> None:
    made = bodies.bodies(Operation.PUT, DATA)
    assert len(set(made)) == len(made) == DATA.keys
    assert len(bodies.bodies(Operation.TXN, DATA)) == DATA.keys // 4
    assert len(bodies.bodies(Operation.BATCH, DATA)) == DATA.keys // 100


def test_a_scan_begins_where_it_finds_all_its_rows() -> None:
    starts = [number for (number,) in DATA.groups(Operation.SCAN_100)]
    assert sorted(starts) == list(range(101))
    assert len(bodies.bodies(Operation.SCAN_100, DATA)) == 101
