import pytest

from multiraft.cli import contention
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.lock_status import RangeLocksStatus
from multiraft.model.requests import RangeLocks
from multiraft.model.transaction import TransactionMeta, TransactionRecord, TransactionStatus
from tests.cli.conftest import Terminal
from tests.client.test_contention import ELSEWHERE, LOCKS, ONE, TWO, A
from tests.support.fake_cluster import EVALUATE, Plan

N1, N2 = NodeId(1), NodeId(2)


def with_locks(terminal: Terminal) -> None:
    terminal.cluster.locks[RangeId(2)] = RangeLocksStatus(
        RangeId(2), N2, True, False, 7, 3, (*LOCKS, *ELSEWHERE)
    )


def lines_of(text: str) -> list[str]:
    """Return the lines of a table and below it, without what only separates them."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line.strip("─")]


def test_locks_shows_holders_and_under_each_who_waits(terminal: Terminal) -> None:
    with_locks(terminal)
    outcome = terminal.run("locks")
    assert outcome.exit_code == 0
    lines = lines_of(outcome.text)
    assert lines[0] == "range key transaction what for"
    assert lines[1:] == [
        "r2 a 01010101 holds an intent 2.0s",
        "02020202 waits: wants to write or lock it 1.5s",
        "(none) waits: reads what was written 0.5s",
        "r2 b 01010101 holds a lock 2.0s",
        "r2 z 02020202 holds an intent 3.0s",
        "03030303 waits: reads what was written 0.2s",
        "r2 zz (none) has a claim 0.0s",
        "r2: 3 further locks",
        "r2: has more intents than its leader keeps in memory",
    ]


def test_locks_may_leave_out_what_nobody_waits_for(terminal: Terminal) -> None:
    assert terminal.run("locks", "--waiting").text == "nobody waits\n"
    assert terminal.run("locks").text == "no key is locked\n"
    with_locks(terminal)
    outcome = terminal.run("locks", "--waiting")
    shown = [line for line in lines_of(outcome.text) if line.startswith("r2 ")]
    assert [line.split()[1] for line in shown] == ["a", "z"]


def test_locks_as_json(terminal: Terminal) -> None:
    with_locks(terminal)
    system, user = terminal.run("locks", "--json").json
    assert system == {
        "range_id": 1,
        "leader": 1,
        "is_complete": True,
        "locks": 0,
        "waiters": 0,
        "keys": [],
    }
    assert (user["locks"], user["waiters"], user["is_complete"]) == (7, 3, False)
    first = user["keys"][0]
    assert (first["key"], first["kind"], first["transaction"]) == ("\x10a", "intent", ONE)
    assert [waiter["why"] for waiter in first["waiters"]] == ["writes", "reads"]
    assert first["waiters"][0]["anchor"] == "\x10z"


def test_locks_of_a_range_without_leader_end_with_3(terminal: Terminal) -> None:
    terminal.cluster.intercept = lambda _node, request: (
        Plan(drop_request=True) if isinstance(request.operations[0], RangeLocks) else EVALUATE
    )
    outcome = terminal.run("locks")
    assert outcome.exit_code == 3
    assert "r2: its leader does not answer\n" in outcome.text
    outcome = terminal.run("locks", "--json")
    assert outcome.exit_code == 3
    assert outcome.json[0]["locks"] is None


def test_transactions_show_what_each_waits_for(terminal: Terminal) -> None:
    with_locks(terminal)
    meta = TransactionMeta(bytes.fromhex(TWO), A)
    terminal.cluster.transactions.records[meta.id] = TransactionRecord(
        meta, TransactionStatus.ABORTED, Timestamp(0), Timestamp(0), Timestamp(0), reason="deadlock"
    )
    outcome = terminal.run("txn", "list")
    assert outcome.exit_code == 0
    lines = lines_of(outcome.text)
    assert lines[1:] == [
        "01010101 pending 9.0s 2 2",
        "02020202 aborted 8.0s 1 a, held by 01010101 1.5s 1",
        "03030303 pending 1.0s 0 z, held by 02020202 0.2s",
        "02020202: deadlock",
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (TransactionStatus.PENDING, "pending, silent 2.6s"),
        (TransactionStatus.STAGING, "staging, silent 2.6s"),
        (TransactionStatus.COMMITTED, "committed"),
    ],
)
def test_a_transaction_whose_client_is_gone_is_told_as_silent(
    terminal: Terminal, status: TransactionStatus, state: str
) -> None:
    with_locks(terminal)
    now = terminal.cluster.now()
    terminal.cluster.clock_of = dict.fromkeys(terminal.cluster.node_ids, now)
    meta = TransactionMeta(bytes.fromhex(ONE), A)
    for silent_ms, shown in ((2_600, state), (2_400, status.name.lower())):
        heartbeat = Timestamp(now - hlc.from_ms(silent_ms))
        record = TransactionRecord(meta, status, heartbeat, heartbeat, heartbeat)
        terminal.cluster.transactions.records[meta.id] = record
        line = lines_of(terminal.run("txn", "list").text)[1]
        assert line == f"01010101 {shown} 9.0s 2 2"


def test_transactions_as_json(terminal: Terminal) -> None:
    assert terminal.run("txn", "list", "--json").json == []
    assert terminal.run("txn", "list").text == "no transaction holds a lock or waits for one\n"
    with_locks(terminal)
    one, two, _ = terminal.run("txn", "list", "--json").json
    assert (one["id"], one["keys"], one["waits"]) == (
        ONE,
        [{"key": "\x10a"}, {"key": "\x10b"}],
        [],
    )
    assert two["waits"] == [{"key": "\x10a", "holder": ONE, "waits_s": 1.5, "why": "writes"}]
    assert two["waited_for_by"] == ["03" * 16]


def test_seconds_are_shown_to_the_tenth_while_they_are_few() -> None:
    assert [contention.show_seconds(s) for s in (0.04, 99.94, 100.2, 4_000.0)] == [
        "0.0s",
        "99.9s",
        "1m 40s",
        "1h 6m",
    ]
