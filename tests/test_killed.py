"""A run that is killed at any moment: starting it again goes on, and nothing broken is ever listed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_again_and_again_it_still_finishes(photos: Path, classifier: Path, tmp_path: Path) -> None:
    environment = os.environ | {"FQBENCH_WORKSPACE": str(tmp_path / "runs"), "PYTHONDONTWRITEBYTECODE": "1"}
    own = ["--data", "folder", "--root", str(photos), "--onnx", str(classifier)]
    own += ["--mean", ".5,.5,.5", "--std", ".2,.2,.2"]
    fqbench = [sys.executable, "-m", "fqbench.cli"]
    command = [*fqbench, "eval", *own, "--calib-n", "16", "--replicates", "200"]
    finished: dict[str, str] = {}
    for attempt in range(60):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.4 + 0.12 * attempt)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        look = [*fqbench, "list", "--json"]
        listed = subprocess.run(look, env=environment, capture_output=True, text=True, check=True)
        assert "damaged" not in listed.stderr
        now = {entry["id"]: entry["created"] for entry in json.loads(listed.stdout)}
        assert {name: now[name] for name in finished} == finished, "a finished stage was made again"
        finished = now
        if not killed:
            break
    kinds = {path.parent.parent.name for path in (tmp_path / "runs").glob("*/*/manifest.json")}
    assert kinds == {
        "samples",
        "prepared",
        "models",
        "calibrations",
        "records",
        "artifacts",
        "predictions",
        "evaluations",
    }
    assert not list((tmp_path / "runs").glob("*/.*.partial"))
