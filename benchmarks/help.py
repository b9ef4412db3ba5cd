"""What `fqbench --help` costs with commands that are built when they are called, against building all of them.

Usage: python benchmarks/help.py [--runs 10]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

LAZY = "from fqbench.cli import main; main(['--help'])"
EAGER = """
from fqbench.cli import app, main
def build(group):
    for command in group.values():
        build(getattr(command, 'commands', {}))
build(app.commands)
main(['--help'])
"""


def cpu_seconds(code: str) -> float:
    """Return the processor time of a new interpreter that runs ``code``; wall time would depend on other programs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Interleave both and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    times = [(cpu_seconds(LAZY), cpu_seconds(EAGER)) for _run in range(runs)]
    lazy, eager = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"commands built when called: {lazy:.3f} s of CPU, all commands built: {eager:.3f} s, ratio {lazy / eager:.2f}"
    )


if __name__ == "__main__":
    main()
