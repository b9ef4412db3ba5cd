"""Verbs whose results are all there read them, and load none of the libraries that only training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "timm", "torchvision", "onnx")
RUN = f"""
import sys
from fqbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("imported:", ",".join(name for name in {HEAVY!r} if name in sys.modules))
"""
DATA = ("--images", "300", "--image-size", "32", "--epochs", "1", "--batch-size", "32")
CALIBRATION = ("--calib-n", "32", "--calib-by", "skin_tone")
GROUPS = ("--by", "skin_tone", "--replicates", "100")
TIMING = ("--rounds", "5", "--seconds", "0")


def run(*arguments: str, folder: Path) -> str:
    """Run a verb in a process of its own; return what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--workspace", str(folder / "runs")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("imported:").strip()


@pytest.mark.slow
def test_what_is_cached_needs_neither_torch_nor_timm(tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: {max_accuracy_drop: 0.9, max_mb: 1000}\nundecided: pass\n")
    verbs = (
        ("eval", *DATA, *CALIBRATION, *GROUPS),
        ("bench", *DATA, *CALIBRATION, *TIMING),
        ("gate", "--limits", str(limits), *DATA, *CALIBRATION, *GROUPS, *TIMING),
    )
    assert "torch" in run(*verbs[0], folder=tmp_path), "the first time it trains"
    for verb in verbs[1:]:
        run(*verb, folder=tmp_path)
    for verb in (*verbs, ("list",), ("verify",)):
        assert not run(*verb, folder=tmp_path), verb
