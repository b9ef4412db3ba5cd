"""The one door: which session answers for an artifact here, and at which level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fqbench import plugins
from fqbench.contracts.runtime import Availability, Level
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import UnavailableError
from fqbench.execution import batch_size_for, execution, logits_of, require_runtime
from fqbench.run import Run
from fqbench.stages.quantize import quantize, reference

MakeRun = Callable[..., Run]


def test_its_own_runtime_answers_where_it_is(make_run: MakeRun) -> None:
    running = execution(reference(make_run()))
    assert (running.level, running.device, running.artifact.where) == (Level.NATIVE, "cpu", "")
    assert running.runtime == plugins.backend("ort").availability().version


def test_what_cannot_run_here_is_emulated_and_says_so(make_run: MakeRun) -> None:
    artifact = quantize(make_run(backend="trt"))
    running = execution(artifact)
    assert (running.level, running.device) == (Level.EMULATED, "cpu")
    assert running.artifact.label.endswith("(emulated)")
    assert running.load(1).run(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 2)
    with pytest.raises(UnavailableError, match="the backend trt cannot run here"):
        require_runtime(artifact)


def test_support_does_not_depend_on_the_machine(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = plugins.backend("trt")
    here = backend.supports(Scheme())
    monkeypatch.setattr(type(backend), "availability", lambda _self: Availability("11.0", ("cuda",)))
    assert backend.supports(Scheme()) == here
    assert here.level is Level.NATIVE


def test_a_missing_runtime_without_emulation_is_refused(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = reference(make_run())
    kind = type(plugins.backend("ort"))
    monkeypatch.setattr(kind, "availability", lambda _self: Availability(None, reason="gone.", remedy="Install it."))
    with pytest.raises(UnavailableError, match=r"the backend ort cannot run here: gone. Install it."):
        execution(artifact)
    assert logits_of(artifact, iter([np.zeros((1, 3, 32, 32), np.float32)])) is None


def test_a_simulated_scheme_is_a_simulated_session(make_run: MakeRun) -> None:
    artifact = quantize(make_run(act_bits=4, bias_correction="off", range_rule="minmax"))
    assert execution(artifact).level is Level.SIMULATED


def test_dynamic_scales_take_one_image_at_a_time(make_run: MakeRun) -> None:
    artifact = reference(make_run())
    dynamic = replace(artifact, scheme=Scheme(method=Method.PTQ_DYNAMIC))
    assert (batch_size_for(artifact, 32), batch_size_for(dynamic, 32)) == (32, 1)


def test_device_not_said_is_the_first_one_and_said_is_kept(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--device cpu`` on a backend of another device is that device's error, never another device."""
    artifact = reference(make_run())
    kind = type(plugins.backend("ort"))
    monkeypatch.setattr(kind, "availability", lambda _self: Availability("1.0", ("cuda", "other")))
    assert execution(artifact).device == "cuda"
    assert execution(artifact, device="cpu").device == "cpu"
    assert make_run().config.bench.device is None
