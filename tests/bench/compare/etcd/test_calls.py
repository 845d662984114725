from bench.compare.etcd import calls
from bench.compare.peer import WRITES_AND_READS, Data, Operation

DATA = Data(keys=1_100, value_bytes=2)


def test_a_put_is_its_key_and_value() -> None:
    assert calls.put(b"k", b"vv") == b"\x0a\x01k\x12\x02vv"


def test_a_long_field_has_a_length_of_two_bytes() -> None:
    assert calls.put(b"", bytes(300)) == b"\x0a\x00\x12\xac\x02" + bytes(300)


def test_a_get_leaves_end_and_limit_out() -> None:
    assert calls.key_range(b"k") == b"\x0a\x01k"


def test_a_scan_has_an_end_and_a_limit() -> None:
    assert calls.key_range(b"a", b"z", 1_000) == b"\x0a\x01a\x12\x01z\x18\xe8\x07"


def test_a_transaction_holds_puts_to_be_made_if_its_conditions_hold() -> None:
    assert calls.txn([b"\x0a\x01k", b"\x0a\x01l"]) == (
        b"\x12\x05\x12\x03\x0a\x01k" + b"\x12\x05\x12\x03\x0a\x01l"
    )


def test_a_body_begins_with_no_compression_and_its_length() -> None:
    assert calls.framed(bytes(258)) == b"\x00\x00\x00\x01\x02" + bytes(258)


def test_every_key_is_used_once_before_any_is_used_again() -> None:
    made = calls.calls(Operation.PUT, DATA)
    assert made.path == "/etcdserverpb.KV/Put"
    assert len(set(made.bodies)) == len(made.bodies) == DATA.keys
    assert len(calls.calls(Operation.TXN, DATA).bodies) == DATA.keys // 4
    assert len(calls.calls(Operation.BATCH, DATA).bodies) == DATA.keys // 100


def test_a_scan_begins_where_it_finds_all_its_rows() -> None:
    starts = [number for (number,) in DATA.groups(Operation.SCAN_100)]
    assert sorted(starts) == list(range(1_001))
    made = calls.calls(Operation.SCAN_100, DATA)
    assert made.path == "/etcdserverpb.KV/Range"
    assert len(made.bodies) == 1_001


def test_an_answer_is_at_least_as_long_as_its_values() -> None:
    found = {each: calls.calls(each, DATA).answer_bytes_min for each in WRITES_AND_READS}
    assert found == {
        Operation.PUT: 0,
        Operation.GET: 2,
        Operation.SCAN_100: 200,
        Operation.SCAN_1000: 2_000,
        Operation.TXN: 0,
        Operation.BATCH: 0,
    }
