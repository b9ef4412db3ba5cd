"""The shipped suites: run over the plug-ins of this repository, and seen to find faults in broken ones."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.plan import QuantizationPlan
from fqbench.contracts.scheme import Method, Scheme
from fqbench.plugins import Arithmetic, Backend, BackendBase, Level, Sampler, Session, SessionBase, Support
from fqbench.testing.backend_suite import BackendSuite
from fqbench.testing.planned import write_artifact
from fqbench.testing.sampler_suite import FEATURES, GROUPS, SamplerSuite, make_samples
from fqbench.testing.tiny_model import calibration_set, tiny_model


class TestOnnxRuntime(BackendSuite):
    def backend(self) -> Backend:
        return plugins.backend("ort")


class TestRandom(SamplerSuite):
    def sampler(self) -> Sampler:
        return plugins.sampler("random")


class TestBalanced(SamplerSuite):
    def sampler(self) -> Sampler:
        return plugins.sampler("balanced")


class TestStratified(SamplerSuite):
    def sampler(self) -> Sampler:
        return plugins.sampler("stratified")


class TestMinority(SamplerSuite):
    def sampler(self) -> Sampler:
        return plugins.sampler("minority")


class Sound(BackendBase):
    """The ort backend, to be broken in one place by each subclass."""

    name = "ort"

    def __init__(self) -> None:
        self.inner = plugins.backend("ort")

    def availability(self) -> plugins.Availability:
        return self.inner.availability()

    def supports(self, scheme: Scheme) -> Support:
        return self.inner.supports(scheme)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        return self.inner.quantize(model, scheme, plan, out)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        return self.session(self.inner.load(artifact, threads=threads, device=device))

    def session(self, inner: Session) -> Session:
        return inner


class Wrapped(SessionBase):
    def __init__(self, inner: Session, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self.inner = inner
        self.arithmetic = inner.arithmetic
        self.change = change

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.change(self.inner.run(images))


class WritesSomethingRandom(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        artifact = super().quantize(model, scheme, plan, out)
        (out / "log.txt").write_bytes(os.urandom(8))
        return replace(artifact, files=(*artifact.files, "log.txt"))


class WritesBesideOut(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        (out.parent / "cache.bin").write_text("")
        return super().quantize(model, scheme, plan, out)


class ForgetsAFile(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        (out / "extra.bin").write_text("")
        return super().quantize(model, scheme, plan, out)


class LeavesScratch(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        Path(tempfile.mkdtemp(dir=out))
        return super().quantize(model, scheme, plan, out)


class RemembersThePath(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        artifact = super().quantize(model, scheme, plan, out)
        return replace(artifact, details={**artifact.details, "path": str(artifact.main_file)})

    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        with Path(artifact.details["path"]).open("rb"):
            return super().load(artifact, threads=threads, device=device)


class SaysNoWithoutReason(Sound):
    def supports(self, scheme: Scheme) -> Support:
        return Support(Level.NO) if scheme.bits == 4 else super().supports(scheme)


class QuantizesNothing(Sound):
    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        return super().quantize(model, Scheme.float32(), plan, out)


class TakesAnyDevice(Sound):
    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        return super().load(artifact, threads=threads, device="cpu")


class AnswersInDouble(Sound):
    def session(self, inner: Session) -> Session:
        return Wrapped(inner, lambda logits: logits.astype(np.float64))


class AnswersWrongly(Sound):
    def session(self, inner: Session) -> Session:
        return Wrapped(inner, lambda logits: logits[:, ::-1])


class NormalizesOverTheBatch(Sound):
    def session(self, inner: Session) -> Session:
        return Wrapped(inner, lambda logits: logits - logits.mean(axis=0))


class ReusesItsBuffer(Sound):
    def session(self, inner: Session) -> Session:
        buffer = np.empty((4, 4), np.float32)

        def write(logits: NDArray[Any]) -> NDArray[Any]:
            buffer[:] = logits
            return buffer

        return Wrapped(inner, write)


class AnswersByThreads(Sound):
    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        return Wrapped(super().load(artifact, threads=threads, device=device), lambda logits: logits + threads)


class CallsFloatInteger(Sound):
    def session(self, inner: Session) -> Session:
        wrapped = Wrapped(inner, lambda logits: logits)
        wrapped.arithmetic = Arithmetic(inner.arithmetic.total_macs, inner.arithmetic.total_macs)
        return wrapped


class RunsInt8InFloat(Sound):
    def session(self, inner: Session) -> Session:
        wrapped = Wrapped(inner, lambda logits: logits)
        wrapped.arithmetic = Arithmetic(0, inner.arithmetic.total_macs)
        return wrapped


class CountsAWholeBatch(Sound):
    def session(self, inner: Session) -> Session:
        wrapped = Wrapped(inner, lambda logits: logits)
        wrapped.arithmetic = Arithmetic(0, 8 * inner.arithmetic.total_macs)
        return wrapped


FP32, INT8, INT4 = Scheme.float32(), Scheme(), Scheme(bits=4)
WEIGHTS_ONLY = Scheme(act_bits=32)


@pytest.mark.parametrize(
    ("broken", "scheme", "test"),
    [
        (WritesSomethingRandom, INT8, "test_quantize_is_deterministic"),
        (WritesBesideOut, INT8, "test_quantize_writes_only_into_out"),
        (ForgetsAFile, INT8, "test_quantize_writes_only_into_out"),
        (LeavesScratch, INT8, "test_quantize_writes_only_into_out"),
        (RemembersThePath, FP32, "test_artifact_loads_from_another_place"),
        (SaysNoWithoutReason, INT4, "test_supports_answers_and_explains"),
        (QuantizesNothing, WEIGHTS_ONLY, "test_unsupported_scheme_is_refused"),
        (QuantizesNothing, INT8, "test_artifact_describes_itself"),
        (TakesAnyDevice, FP32, "test_unknown_device_is_refused"),
        (AnswersInDouble, INT8, "test_answers_have_the_right_form"),
        (AnswersWrongly, FP32, "test_fp32_answers_like_onnxruntime"),
        (AnswersWrongly, INT8, "test_8_bits_mostly_agree_with_fp32"),
        (NormalizesOverTheBatch, INT8, "test_answers_do_not_depend_on_the_batch"),
        (ReusesItsBuffer, INT8, "test_answers_do_not_change"),
        (AnswersByThreads, INT8, "test_threads_do_not_change_the_answers"),
        (CallsFloatInteger, FP32, "test_arithmetic_is_plausible"),
        (RunsInt8InFloat, INT8, "test_arithmetic_is_plausible"),
        (CountsAWholeBatch, FP32, "test_arithmetic_is_plausible"),
    ],
)
def test_suite_finds_the_fault_and_passes_without_it(
    broken: type[Sound], scheme: Scheme, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_one(Sound, scheme, test, tmp_path / "sound", monkeypatch)
    with pytest.raises((AssertionError, FileNotFoundError, pytest.fail.Exception)):
        run_one(broken, scheme, test, tmp_path / "broken", monkeypatch)


def run_one(factory: type[Sound], scheme: Scheme, test: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Suite(BackendSuite):
        def backend(self) -> Backend:
            return factory()

    (folder / "model").mkdir(parents=True)
    model = tiny_model(folder / "model")
    count = iter(range(100))

    def quantized(wanted: Scheme) -> Artifact:
        out = folder / f"quantized-{next(count)}"
        out.mkdir()
        return write_artifact(factory(), model, wanted, out, calibration_set())

    known: dict[str, object] = {
        "scheme": scheme,
        "calibrated_scheme": scheme,
        "model": model,
        "quantized": quantized,
        "made": quantized,
        "tmp_path": folder,
        "monkeypatch": monkeypatch,
    }
    method = getattr(Suite(), test)
    method(**{name: known[name] for name in inspect.signature(method).parameters})


class SoundSampler:
    name = "sound"

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return plugins.sampler("balanced").sample(samples, n, by=by, rng=rng)


class TakesTheFirstRows(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        return np.arange(n, dtype=np.int64)


class ReturnsLabels(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        return np.asarray(samples.index[super().sample(samples, n, **options)])


class UsesTheGlobalGenerator(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        return np.random.randint(len(samples), size=n)  # noqa: NPY002


class AddsAColumn(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        samples["group"] = "x"
        return super().sample(samples, n, **options)


class IgnoresBy(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        present = [feature for feature in FEATURES if feature in samples]
        return super().sample(samples, n, by=present, rng=options["rng"])


class AlwaysRepeats(SoundSampler):
    def sample(self, samples: pd.DataFrame, n: int, **options: Any) -> NDArray[np.int64]:
        rng: np.random.Generator = options["rng"]
        return rng.integers(len(samples), size=n)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (TakesTheFirstRows, "test_order_of_the_table_does_not_bias"),
        (ReturnsLabels, "test_positions_are_not_index_labels"),
        (UsesTheGlobalGenerator, "test_only_the_given_generator_is_used"),
        (UsesTheGlobalGenerator, "test_same_generator_gives_same_rows"),
        (AddsAColumn, "test_table_is_not_changed"),
        (IgnoresBy, "test_features_not_asked_for_do_not_matter"),
        (AlwaysRepeats, "test_rows_of_a_large_enough_table_do_not_repeat"),
    ],
)
def test_suite_finds_faulty_samplers(broken: type[SoundSampler], test: str) -> None:
    for factory in (SoundSampler, broken):

        class Suite(SamplerSuite):
            def sampler(self) -> Sampler:
                return factory()  # noqa: B023

        method = getattr(Suite(), test)
        tables = {"samples": make_samples(GROUPS, seed=0)}
        arguments = {name: tables[name] for name in inspect.signature(method).parameters}
        if factory is SoundSampler:
            method(**arguments)
        else:
            with pytest.raises(AssertionError):
                method(**arguments)


def test_every_scheme_of_the_grid_has_a_name_of_its_own() -> None:
    labels = [scheme.label for scheme in BackendSuite.schemes]
    assert len(set(labels)) == len(labels)
    assert {scheme.method for scheme in BackendSuite.schemes} == set(Method)
