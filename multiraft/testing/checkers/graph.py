"""Directed graphs of transactions: strongly connected parts and shortest cycles.

Invariants
    - Nothing recurses, so the size of a history is no limit.
    - Nodes and edges are visited in the order in which they were added: the same history gives the
      same cycle.
Source
    Tarjan, "Depth-first search and linear graph algorithms" (1972).
"""

from collections import deque
from collections.abc import Collection, Iterator

Edges = dict[int, list[int]]
"""The successors of each node; all nodes are keys."""

STARTS_MAX = 300
"""Through so many nodes of a part a cycle is looked for: from each, the whole part may be seen."""


def components(edges: Edges) -> list[list[int]]:
    """Return the strongly connected parts that have more than one node."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    open_nodes: list[int] = []
    is_open: set[int] = set()
    found: list[list[int]] = []
    for root in edges:
        if root in number:
            continue
        path: list[tuple[int, Iterator[int]]] = []
        _enter(root, edges, number, low, open_nodes, is_open, path)
        while path:
            node, rest = path[-1]
            for after in rest:
                if after not in number:
                    _enter(after, edges, number, low, open_nodes, is_open, path)
                    break
                if after in is_open:
                    low[node] = min(low[node], number[after])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == number[node]:
                    part = _close(node, open_nodes, is_open)
                    if len(part) > 1:
                        found.append(part)
    return found


def _enter(
    node: int,
    edges: Edges,
    number: dict[int, int],
    low: dict[int, int],
    open_nodes: list[int],
    is_open: set[int],
    path: list[tuple[int, Iterator[int]]],
) -> None:
    number[node] = low[node] = len(number)
    open_nodes.append(node)
    is_open.add(node)
    path.append((node, iter(edges[node])))


def _close(node: int, open_nodes: list[int], is_open: set[int]) -> list[int]:
    part = []
    while True:
        last = open_nodes.pop()
        is_open.remove(last)
        part.append(last)
        if last == node:
            return sorted(part)


def shortest_path(edges: Edges, start: int, end: int, within: Collection[int]) -> list[int] | None:
    """Return the nodes of a shortest path over nodes of `within`, both ends included."""
    before = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for after in edges[node]:
            if after == end:
                path = [end, node]
                while node != start:
                    node = before[node]
                    path.append(node)
                return path[::-1]
            if after not in before and after in within:
                before[after] = node
                queue.append(after)
    return None


def shortest_cycle(edges: Edges, part: list[int]) -> list[int]:
    """Return the nodes of a shortest cycle in a strongly connected part, each once.

    In a part of more than `STARTS_MAX` nodes, of those through the first ones.
    """
    within = frozenset(part)
    best: list[int] | None = None
    for start in part[:STARTS_MAX]:
        path = shortest_path(edges, start, start, within)
        assert path is not None, "every node of a strongly connected part lies on a cycle"
        if best is None or len(path) < len(best):
            best = path
        if len(best) == 3:
            break  # There is no shorter one.
    assert best is not None, "a part has nodes"
    return best[:-1]
