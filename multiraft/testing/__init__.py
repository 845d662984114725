"""What users import in their tests: a cluster to hurt, histories of what clients saw, and judges.

Life of a test
    A `Cluster` runs inside the test, on real or on virtual time (`simulated`, `run_simulated`),
    and is hurt while the application works.

Life of a history
    Clients note each call with a `History` when they make it and when it ends (history.py). The
    history is judged at once, or written as JSON lines (history_file.py) and judged later by
    `multiraft check`. A checker (checkers/) is a pure function from the operations to a `Verdict`
    that names and explains each anomaly.

Caveats
    A verdict speaks of the history alone: what no client looked at may be wrong all the same. So
    let workloads read what they wrote, and end with reads of everything.

    Everything is imported when it is first asked for: the pytest plugin is loaded into every test
    run of an environment, and must cost it little.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiraft.testing import checkers
    from multiraft.testing.blocking_cluster import BlockingCluster
    from multiraft.testing.cluster import Cluster
    from multiraft.testing.cluster_status import ClusterStatus, MisuseError
    from multiraft.testing.history import History, Operation, Outcome
    from multiraft.testing.history_file import BadHistoryError, load, save
    from multiraft.testing.simulation import run_simulated, simulated

__all__ = [
    "BadHistoryError",
    "BlockingCluster",
    "Cluster",
    "ClusterStatus",
    "History",
    "MisuseError",
    "Operation",
    "Outcome",
    "checkers",
    "load",
    "run_simulated",
    "save",
    "simulated",
]

_MODULES = {
    "BadHistoryError": "history_file",
    "BlockingCluster": "blocking_cluster",
    "Cluster": "cluster",
    "ClusterStatus": "cluster_status",
    "History": "history",
    "MisuseError": "cluster_status",
    "Operation": "history",
    "Outcome": "history",
    "load": "history_file",
    "run_simulated": "simulation",
    "save": "history_file",
    "simulated": "simulation",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what is asked for."""
    if name == "checkers":
        return importlib.import_module(f"{__name__}.checkers")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
