"""Conformance tests of optional abilities: options, phases, emulation, building, training."""

# ruff: noqa: D102 - the name of a test says what must hold, and the message of its assertion what does not
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fqbench.config import QatOptions
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.numerics import Numerics
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import FqbenchError
from fqbench.plugins import Abilities, Backend, BackendOptions, Level, Session
from fqbench.quant.graph import cleaned
from fqbench.quant.weights import weights_of
from fqbench.testing.tiny_model import CLASSES, onnxruntime_logits, pictures


class AbilitySuite:
    """Part of `fqbench.testing.backend_suite.BackendSuite`; a test is skipped if the backend lacks the ability."""

    device: str

    def backend(self) -> Backend:
        """Return the backend under test, a new instance."""
        raise NotImplementedError

    def load(self, artifact: Artifact, threads: int = 1) -> Session:
        """Load an artifact."""
        raise NotImplementedError

    def trained(self, model: ExportedModel, scheme: Scheme) -> ExportedModel:
        """Return the model with what training would have learned."""
        raise NotImplementedError

    def written(self, model: ExportedModel, scheme: Scheme, out: Path) -> Artifact:
        """Plan and write an artifact of the model."""
        raise NotImplementedError

    def test_abilities_are_declared(self) -> None:
        assert isinstance(self.backend().abilities, Abilities), "abilities must be an Abilities"

    def test_options_are_described(self) -> None:
        options = self.backend().options
        assert isinstance(options, BackendOptions), "options must be an instance of a BackendOptions"
        assert options.model_config.get("frozen"), "options must be frozen"
        for name, field in type(options).model_fields.items():
            assert field.description, f"the option {name} has no description, which is its help"
        assert json.loads(options.model_dump_json()) is not None, "options must be JSON values: ids depend on them"

    def test_numerics_match_the_scheme(self, scheme: Scheme) -> None:
        if self.backend().supports(scheme).level is Level.NO or scheme.is_float:
            pytest.skip("this scheme is not quantized here")
        numerics = self.backend().numerics(scheme)
        assert isinstance(numerics, Numerics), "numerics() must give a Numerics"
        assert numerics == self.backend().numerics(scheme), "numerics() must give the same answer each time"
        if scheme.bits <= 8:
            assert numerics.weights.bits == scheme.bits, f"weights of {scheme.label} have {numerics.weights.bits} bits"
        if scheme.act_bits <= 8:
            assert numerics.activations.bits == scheme.act_bits, f"activations have {numerics.activations.bits} bits"

    def test_phases_are_named_times(self, made: Callable[[Scheme], Artifact]) -> None:
        session = self.load(made(Scheme.float32()))
        for seed in range(3):
            session.run(pictures(2, seed=seed))
        phases = session.phases(2)
        assert all(isinstance(name, str) and name for name in phases), "phases are named"
        assert all(np.isfinite(ms) and ms >= 0 for ms in phases.values()), f"phases are milliseconds: {phases}"
        assert set(phases) == set(session.phases()), "phases of some calls have other names than phases of all"

    def test_kernels_have_times(self, made: Callable[[Scheme], Artifact], model: ExportedModel) -> None:
        timer = self.backend().abilities.layer_timer
        if timer is None:
            pytest.skip(f"{self.backend().name} does not time single layers")
        times = timer.layer_times(made(Scheme()), pictures(5, seed=13), threads=1, device=self.device)
        assert all(np.isfinite(ms) and ms >= 0 for ms in times.values()), f"times are milliseconds: {times}"
        weighted = {weight.node.name for weight in weights_of(cleaned(model.path))}
        missing = weighted - set(times)
        assert not missing, f"layers with weights have kernels of their own, but no times: {missing}"

    def test_emulation_answers(self, model: ExportedModel, tmp_path: Path) -> None:
        emulator = self.backend().abilities.emulator
        if emulator is None or not self.backend().availability().can_write:
            pytest.skip(f"{self.backend().name} is not emulated")
        assert emulator.emulation(), "emulation() must name what executes the artifact"
        out = tmp_path / "emulated"
        out.mkdir()
        artifact = self.written(model, Scheme(), out)
        session, images = emulator.emulate(artifact, threads=1), pictures(32, seed=11)
        answers = session.run(images)
        assert answers.shape == (32, len(CLASSES)), f"logits of 32 images have shape {answers.shape}"
        np.testing.assert_array_equal(session.run(images), answers, "the same images got other answers")
        same = (answers.argmax(axis=1) == onnxruntime_logits(model.path, images).argmax(axis=1)).mean()
        assert same >= 0.9, f"8 bits, emulated, and FP32 agree on {same:.0%} of the images"

    def test_a_build_is_recognised_and_answers(self, quantized: Callable[[Scheme], Artifact], tmp_path: Path) -> None:
        builder = self.backend().abilities.builder
        if builder is None:
            pytest.skip(f"artifacts of {self.backend().name} run as they are")
        artifact = quantized(Scheme.float32())
        assert builder.next_step(artifact), "next_step() must say how to build it elsewhere"
        identity = dict(builder.build_identity(self.device))
        assert json.loads(json.dumps(identity)) == identity, "build_identity() must be JSON values"
        out = tmp_path / "built"
        out.mkdir()
        made = builder.build(artifact, out, device=self.device, source=None, timing_cache=None)
        published = replace(artifact, root=made.root, files=made.files, details=json.loads(json.dumps(made.details)))
        assert builder.built_here(published, self.device), "what was built here must be recognised"
        images = pictures(2, seed=12)
        assert self.load(published).run(images).shape == (2, len(CLASSES)), "what was built must answer"

    def test_training_refuses_what_it_cannot_train(self, model: ExportedModel) -> None:
        trainer = self.backend().abilities.trainer
        if trainer is None:
            pytest.skip(f"{self.backend().name} does not train")
        scheme = Scheme(method=Method.QAT)
        numerics = self.backend().numerics(scheme)
        bare = replace(model, architecture="", checkpoint=None)  # as one that came as ONNX
        with pytest.raises(FqbenchError):
            trainer.training(bare, scheme, numerics=numerics, options=QatOptions())
