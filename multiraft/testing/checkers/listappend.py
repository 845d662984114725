"""Transactions that append to lists and read them, and whether a serial order explains them.

Purpose
    Lists keep the history of their key, so what was read tells which transaction comes before
    which, and a cycle means that there is no order. With `strict`, an order must also respect real
    time; with `process`, the order within each process.
Anomalies
    internal             a transaction contradicts itself
    unwritten            a value that nobody appended
    G1a                  a read of what an aborted transaction appended
    dirty-update         a commit on top of what an aborted transaction appended
    G1b                  a read of what was not a transaction's last append to the key
    duplicate-append     one append made twice
    incompatible-order   two lists of which neither continues the other
    lost-update          two transactions that appended to the very list that both had read
    G0                   a cycle of appends
    G1c                  ... with reads of what was appended
    G-single             ... with one read that missed an append (read skew)
    G2-item              ... with several (write skew)
    With -process or -realtime behind a name, the cycle needs the order in a process or in time.
Source
    Adya (1999); Kingsbury and Alvaro, "Elle: inferring isolation anomalies" (2020).
"""

from collections.abc import Iterable, Iterator

from multiraft.testing.checkers import appends, dependencies, graph
from multiraft.testing.checkers.appends import Transaction, Version
from multiraft.testing.checkers.dependencies import PROCESS, REALTIME, RW, WR, WW, Dependencies
from multiraft.testing.checkers.verdict import Anomaly, Verdict, passed_over, select, show
from multiraft.testing.history import Operation

_PER_NAME_MAX = 8
"""Cycles that are told of each kind."""
_RW_TRIED_MAX = 2_000


def check(history: Iterable[Operation], *, strict: bool = False, process: bool = False) -> Verdict:
    """Judge the transactions. Raises BadHistoryError for operations that make no sense."""
    operations, others = select(history, (appends.FUNCTION,))
    transactions, anomalies = appends.parse(operations)
    writers = appends.writers_of(transactions)
    anomalies += appends.wrong_reads(transactions, writers)
    longest, contradictions = dependencies.longest_versions(transactions)
    anomalies += contradictions
    anomalies += _lost_updates(transactions)
    # Whoever was seen did commit, whatever its client was told.
    seen = appends.seen_writers(transactions, longest, writers)
    committed = [t for t in transactions if t.operation.outcome == "ok" or t.id in seen]
    order = Dependencies(committed)
    dependencies.add_versions(order, longest, writers)
    anomalies += _cycles(order, (), "", anomalies)
    if process:
        dependencies.add_process_order(order)
        anomalies += _cycles(order, (PROCESS,), "-process", anomalies)
    if strict:
        dependencies.add_real_time(order)
        anomalies += _cycles(order, (REALTIME,), "-realtime", anomalies)
    return Verdict("list-append", len(operations), tuple(anomalies), passed_over(others))


def _lost_updates(transactions: Iterable[Transaction]) -> Iterator[Anomaly]:
    updates: dict[tuple[object, Version], list[Transaction]] = {}
    for transaction in transactions:
        if transaction.operation.outcome == "ok":
            for key, version in dict.fromkeys(transaction.reads):
                if key in transaction.appends:
                    updates.setdefault((key, version), []).append(transaction)
    for (key, version), rivals in updates.items():
        if len(rivals) > 1:
            names = ", ".join(str(rival) for rival in rivals)
            text = (
                f"{names} all read {show(key)} as {show(version)} and appended to it: "
                "all but one overwrote what they had not seen"
            )
            yield Anomaly("lost-update", text, tuple(rival.id for rival in rivals))


def _cycles(
    order: Dependencies, extra: tuple[str, ...], suffix: str, told: Iterable[Anomaly]
) -> list[Anomaly]:
    """Find cycles, from the gravest kind to the mildest; one cycle is told once."""
    if not graph.components(order.edges((WW, WR, *extra, RW))):
        return []  # Nor is there any with fewer kinds.
    known = {frozenset(anomaly.operations) for anomaly in told if anomaly.name.startswith("G")}
    anomalies = []
    for name, cycles, kinds in (
        ("G0", _any(order, (WW, *extra)), (WW, *extra)),
        ("G1c", _any(order, (WW, WR, *extra)), (WW, WR, *extra)),
        ("G-single", _with_one_rw(order, (WW, WR, *extra)), (WW, WR, *extra, RW)),
        ("G2-item", _any(order, (WW, WR, *extra, RW)), (WW, WR, *extra, RW)),
    ):
        count = 0
        for cycle in cycles:
            if frozenset(cycle) in known:
                continue
            known.add(frozenset(cycle))
            anomalies.append(_told(order, name + suffix, cycle, kinds))
            count += 1
            if count == _PER_NAME_MAX:
                break
    return anomalies


def _any(order: Dependencies, kinds: tuple[str, ...]) -> Iterator[list[int]]:
    edges = order.edges(kinds)
    for part in graph.components(edges):
        yield graph.shortest_cycle(edges, part)


def _with_one_rw(order: Dependencies, kinds: tuple[str, ...]) -> Iterator[list[int]]:
    """Yield one cycle with exactly one edge of kind rw for each part of the graph."""
    part_of: dict[int, frozenset[int]] = {}
    for part in graph.components(order.edges((*kinds, RW))):
        part_of |= dict.fromkeys(part, frozenset(part))
    edges = order.edges(kinds)
    best: dict[frozenset[int], list[int]] = {}
    tried = 0
    for reader, writer in order.of_kind(RW):
        within = part_of.get(reader)
        if within is None or writer not in within or tried >= _RW_TRIED_MAX:
            continue
        tried += 1
        path = graph.shortest_path(edges, writer, reader, within)
        if path is not None and (within not in best or len(path) < len(best[within])):
            best[within] = path
    yield from best.values()


def _told(order: Dependencies, name: str, cycle: list[int], kinds: tuple[str, ...]) -> Anomaly:
    lines = [f"{len(cycle)} transactions of which each must come before the next:"]
    edges = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    for edge in edges:
        kind = order.kind(edge, kinds)
        lines.append(f"  T{edge[0]} before T{edge[1]} ({kind}): {order.why(edge, kind)}")
    return Anomaly(name, "\n".join(lines), tuple(cycle))
