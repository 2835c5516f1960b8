"""Processor time of ``import halopy`` and of ``halopy --help`` against that of the parts of astropy it stands on.

    python benchmarks/import_cost.py [rounds]

Each import runs in a fresh interpreter, in alternating rounds; the medians count. The plan of the
package allows 1.5 times the yardstick.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

STATEMENTS = {"nothing": "pass", "yardstick": "import astropy.io.fits, astropy.wcs, astropy.table",
              "halopy": "import halopy",
              "halopy --help": "from halopy.cli import main; main(['--help'])"}


def cpu_seconds(statement):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    seconds = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            seconds[name].append(cpu_seconds(statement))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"{name:14} {value:6.3f} s cpu (median of {rounds}, {low:.3f} to {high:.3f})")
    for name in ("halopy", "halopy --help"):
        ratio = (median[name] - median["nothing"]) / (median["yardstick"] - median["nothing"])
        print(f"{name} / yardstick, without the interpreter itself: {ratio:.2f}")


if __name__ == "__main__":
    main()
