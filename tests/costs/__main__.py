"""Show what operations cost, and which functions they call: `python -m tests.costs [NAME...]`.

`--write` takes what is measured as the new bounds of all operations.
"""

import argparse

from tests.costs import bounds, operations
from tests.costs.operations import OPERATIONS


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.costs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--top", type=int, default=30, help="how many functions to show")
    parser.add_argument("--write", action="store_true", help=f"write {bounds.FILE.name} anew")
    options = parser.parse_args()
    unknown = set(options.names) - set(OPERATIONS)
    if unknown:
        parser.error(f"there is no operation {', '.join(sorted(unknown))}")
    if options.write:
        bounds.write({name: operations.measure(each) for name, each in OPERATIONS.items()})
        return
    for name in options.names or OPERATIONS:
        measured = operations.measure(OPERATIONS[name])
        print(f"{name}: {OPERATIONS[name].about}\n  {measured.cost}")
        print("  " + ", ".join(f"{k} {v:g}" for k, v in measured.calls_by_package().items()))
        for line in bounds.most_called(measured, options.top):
            print(f"  {line}")


if __name__ == "__main__":
    main()
