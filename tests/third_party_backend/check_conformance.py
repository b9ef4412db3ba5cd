"""The package's own test, run where it is installed: it is found by its entry point and passes fqbench's suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench import bench, evaluate, experiment, plugins, quantize, reference
from fqbench.errors import InputError
from fqbench.plugins import Backend, Level
from fqbench.report.latency import latency_document
from fqbench.report.renderers.text import lines
from fqbench.testing.backend_suite import BackendSuite


class TestNumpyReference(BackendSuite):
    def backend(self) -> Backend:
        return plugins.backend("numpy_reference")


def test_it_is_declared_by_its_own_distribution() -> None:
    claims = plugins.installed(plugins.BACKENDS)["numpy_reference"]
    assert [claim.origin for claim in claims] == ["fqbench-numpy-reference"]


def test_its_own_options_are_set_and_checked() -> None:
    assert plugins.backend("numpy_reference", {"chunk": 3}).options.model_dump() == {"chunk": 3}
    assert plugins.backend("numpy_reference").options.model_dump() == {"chunk": 64}
    with pytest.raises(InputError, match=r"no option 'chunks'.*chunk"):
        plugins.backend("numpy_reference", {"chunks": 3})
    with pytest.raises(InputError, match=r"--backend-option numpy_reference.chunk: .*not 0"):
        plugins.backend("numpy_reference", {"chunk": 0})


def test_a_whole_experiment_needs_no_change_of_the_core(tmp_path: Path) -> None:
    flags = {"images": 240, "test_images": 48, "image_size": 32, "epochs": 1, "batch_size": 32, "calib_n": 64}
    timing = {"rounds": 5, "seconds": 0.0}
    run = experiment(tmp_path, backend="numpy_reference", backend_option=["numpy_reference.chunk=8"], **flags, **timing)
    artifacts = [reference(run), quantize(run)]
    assert artifacts[1].details["input_zero_point"] > 0  # unsigned and asymmetric
    evaluation, latency = evaluate(run, artifacts), bench(run, artifacts)
    assert evaluation.artifacts[1].level is Level.SIMULATED
    fp32, simulated = latency.subjects
    assert set(fp32.phases) == {"split", "evaluate"}
    assert simulated.facts.level is Level.SIMULATED
    assert simulated.speedup is None
    shown = " ".join(line for line, _style in lines(latency_document(latency), 200))
    assert "split" in shown
    assert "evaluate" in shown
