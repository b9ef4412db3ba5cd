"""How long verbs take whose results are all there, and what they import: wall time of whole processes, best of several.

Usage: python benchmarks/cached.py [--workspace DIR] [--repeats N]

Without a workspace it makes a small one first (`fqbench demo --debug`), which takes a minute or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVY = ("torch", "timm", "torchvision")
RUN = """
import sys
from fqbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print(",".join(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""
DEBUG = (
    *("--images", "1200", "--epochs", "1", "--batch-size", "32", "--calib-n", "128"),
    *("--by", "skin_tone,age_group", "--calib-by", "skin_tone,age_group"),
)
TIMED = ("--rounds", "60", "--seconds", "0.5")


def verbs(limits: Path) -> dict[str, list[str]]:
    """Return the command lines to time."""
    return {
        "--help": ["--help"],
        "list": ["list"],
        "demo --debug": ["demo", "--debug"],
        "eval": ["eval", *DEBUG],
        "bench": ["bench", *DEBUG[:-4], *DEBUG[-2:], *TIMED],
        "gate": ["gate", "--limits", str(limits), *DEBUG, *TIMED],
    }


def timed(arguments: list[str], workspace: Path) -> tuple[float, str]:
    """Return the seconds of one process, and which heavy libraries it imported."""
    environment = {**os.environ, "FQBENCH_WORKSPACE": str(workspace)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=workspace,
        check=True,
    )
    return time.perf_counter() - start, done.stderr.splitlines()[-1]


def main() -> None:
    """Make everything once, then time what is cached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = (asked.workspace or Path(folder)).absolute()
        workspace.mkdir(parents=True, exist_ok=True)
        limits = Path(folder) / "limits.yaml"
        limits.write_text("limits: {max_accuracy_drop: 0.9, max_p50_ms: 1000}\nundecided: pass\n")
        print("verb            first s   cached s   imports of torch, timm, torchvision")
        for name, arguments in verbs(limits).items():
            first, _imports = timed(arguments, workspace)
            again = [timed(arguments, workspace) for _ in range(asked.repeats)]
            seconds, imports = min(again)
            print(f"{name:15} {first:7.2f} {seconds:10.2f}   {imports or 'none'}")


if __name__ == "__main__":
    main()
