"""Peak memory is that of a process of its own, and a failure there is a reason, not an error."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme
from fqbench.latency import memory
from fqbench.latency.memory import fresh_process
from fqbench.latency.results import PeakMemory
from fqbench.testing.tiny_model import tiny_model

MIB = 2**20


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    for name in ("model", "out"):
        (tmp_path / name).mkdir()
    return plugins.backend("ort").quantize(tiny_model(tmp_path / "model"), Scheme.float32(), None, tmp_path / "out")


@pytest.mark.slow
def test_peak_is_of_the_child_and_not_of_this_process(artifact: Artifact) -> None:
    ballast = np.ones(600 * MIB // 8)  # more than the child can need; fork and exec must not carry it over
    measured = fresh_process(artifact, (3, 32, 32)).memory
    assert measured.peak is not None, measured.reason
    assert measured.before is not None
    assert measured.added is not None
    assert 20 * MIB < measured.before < measured.peak < ballast.nbytes
    assert measured.added > MIB, "onnxruntime itself is loaded with the artifact"
    assert json.loads(json.dumps(measured.to_dict()))["peak"] == measured.peak


@pytest.mark.slow
def test_larger_batch_needs_more(artifact: Artifact) -> None:
    small, large = (fresh_process(artifact, (3, 32, 32), batch=batch).memory.peak for batch in (1, 2000))
    assert small is not None
    assert large is not None
    assert large - small > 2000 * 3 * 32 * 32 * 4 / 2


@pytest.mark.slow
def test_failure_in_the_child_is_a_reason(artifact: Artifact) -> None:
    measured = fresh_process(replace(artifact, backend="no_such_backend"), (3, 32, 32)).memory
    assert measured.peak is None
    assert measured.added is None
    assert "no_such_backend" in measured.reason


def test_child_that_dies_or_talks_nonsense_is_a_reason(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def instead(code: str) -> None:
        def run(_arguments: list[str], **options: object) -> object:
            return real([sys.executable, "-c", code], **options)  # type: ignore[call-overload]

        monkeypatch.setattr(memory.subprocess, "run", run)

    instead("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "ended with -9" in fresh_process(artifact, (3, 32, 32)).memory.reason
    instead("print('no json')")
    assert "JSONDecodeError" in fresh_process(artifact, (3, 32, 32)).memory.reason
    instead("")
    assert fresh_process(artifact, (3, 32, 32)).memory.peak is None


def test_process_status_is_read_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    monkeypatch.setattr(memory, "PROCESS_STATUS", status)
    assert memory._resident("VmHWM") == 2 * MIB
    assert memory._resident("VmRSS") == MIB
    assert memory._resident("VmSwap") is None


def test_nothing_is_added_where_nothing_was_measured() -> None:
    assert PeakMemory(None, 5, "why").added is None
    assert PeakMemory(7, 5).added == 2
