"""The conformance suite of backends: subclass it in your own tests, and give it your backend."""

# ruff: noqa: D102 - the name of a test says what must hold, and the message of its assertion what does not
from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Override, Scheme
from fqbench.errors import FqbenchError, SchemeNotSupported, UnavailableError
from fqbench.plugins import Availability, Backend, Level, Session, support_of
from fqbench.testing.ability_suite import AbilitySuite
from fqbench.testing.planned import write_artifact
from fqbench.testing.sums import exact
from fqbench.testing.tiny_model import (
    CLASSES,
    MACS,
    calibration_set,
    learned_scales,
    onnxruntime_logits,
    pictures,
    tiny_model,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.calibration import CalibrationSet

SCHEMES = (
    Scheme.float32(),
    Scheme(),
    Scheme(method=Method.PTQ_DYNAMIC),
    Scheme(range_rule="percentile"),
    Scheme(bits=4),
    Scheme(bits=2),
    Scheme(bits=4, act_bits=4),
    Scheme(overrides=(Override(role="head", bits=32),)),
    Scheme(bits=4, overrides=(Override(role="first", bits=8),)),
    Scheme(method=Method.QAT),
    Scheme(reduce_range=True),
    Scheme(rescaling="on"),
    Scheme.cast("bf16"),
    Scheme.cast("fp16"),
)
# Of the largest logit: rounding at the end of a sum of 16-bit floats, which another batch size may sum differently.
HALF_ROUNDING = 0.02


class BackendSuite(AbilitySuite):
    """What every backend must do; a subclass named ``Test...`` gives `backend` and is otherwise empty.

    A test is skipped only where the backend's own ``availability`` or ``supports`` says that it cannot do this, and
    with the reason that they give. Reference answers come from onnxruntime itself, never from the backend.

    Attributes
    ----------
    schemes : sequence of Scheme
        Schemes to try; a subclass may add its own.
    device : str
        Device to load on.
    rounding : float
        Largest difference that another order of float sums may make, as a share of the largest logit.
    macs : int
        Multiply-accumulates of one image of the model; a subclass that overrides the fixture ``model`` gives its own.

    Examples
    --------
    >>> class TestMyBackend(BackendSuite):
    ...     def backend(self):
    ...         return MyBackend()
    """

    schemes: Sequence[Scheme] = SCHEMES
    device = "cpu"
    rounding = 1e-4
    macs = MACS

    def backend(self) -> Backend:
        """Return the backend under test, a new instance."""
        raise NotImplementedError("a subclass of BackendSuite must define backend().")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that asks for a scheme once for every scheme of the subclass."""
        if "scheme" in metafunc.fixturenames:
            metafunc.parametrize("scheme", self.schemes, ids=lambda scheme: scheme.label)
        if "calibrated_scheme" in metafunc.fixturenames:
            calibrated = [scheme for scheme in self.schemes if scheme.needs_calibration]
            metafunc.parametrize("calibrated_scheme", calibrated, ids=lambda scheme: scheme.label)

    @pytest.fixture
    def model(self, tmp_path: Path) -> ExportedModel:
        """FP32 model of the suite, in a folder of its own."""
        folder = tmp_path / "model"
        folder.mkdir()
        return tiny_model(folder)

    @pytest.fixture
    def quantized(self, tmp_path: Path, model: ExportedModel) -> Callable[[Scheme], Artifact]:
        """Quantizer by a scheme into a new folder; it skips where the backend says that it cannot."""

        def quantize(scheme: Scheme) -> Artifact:
            self.require(scheme)
            out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
            out.mkdir()
            return self.written(model, scheme, out)

        return quantize

    @pytest.fixture(scope="class")
    @classmethod
    def shelf(cls) -> dict[Scheme, Artifact]:
        """Artifacts that `made` has kept."""
        return {}

    @pytest.fixture
    def made(
        self,
        shelf: dict[Scheme, Artifact],
        quantized: Callable[[Scheme], Artifact],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Callable[[Scheme], Artifact]:
        """Artifacts by scheme, each quantized once for the class: read only."""

        def make(scheme: Scheme) -> Artifact:
            if scheme not in shelf:
                artifact = quantized(scheme)
                root = tmp_path_factory.mktemp("made") / "artifact"
                shelf[scheme] = replace(artifact, root=shutil.copytree(artifact.root, root))
            return shelf[scheme]

        return make

    def written(
        self, model: ExportedModel, scheme: Scheme, out: Path, calibration: CalibrationSet | None = None
    ) -> Artifact:
        """Plan and write an artifact of the model, as the quantize stage does."""
        images = calibration or calibration_set()
        return write_artifact(self.backend(), self.trained(model, scheme), scheme, out, images)

    def trained(self, model: ExportedModel, scheme: Scheme) -> ExportedModel:
        """Return the model with scales as training would learn them, where the scheme wants such."""
        if scheme.method is not Method.QAT:
            return model
        signed = self.backend().numerics(scheme).activations.symmetric
        return replace(model, learned=learned_scales(model, scheme, symmetric=signed))

    def require(self, scheme: Scheme) -> None:
        """Skip the test if the backend is not available here, or cannot run the scheme."""
        availability = self.backend().availability()
        if not availability.can_run:
            pytest.skip(f"{self.backend().name} is not available: {availability.reason}")
        support = support_of(self.backend(), scheme)
        if support.level is Level.NO:
            pytest.skip(f"{self.backend().name} does not support {scheme.label}: {support.reason}")

    def load(self, artifact: Artifact, threads: int = 1) -> Session:
        """Load an artifact on the subclass's device; skip where the device has no kernels for the type of a cast."""
        try:
            return self.backend().load(artifact, threads=threads, device=self.device)
        except UnavailableError as error:
            if artifact.scheme.method is not Method.CAST:
                raise
            pytest.skip(str(error))

    def test_it_is_a_backend(self) -> None:
        backend = self.backend()
        assert isinstance(backend, Backend), "parts of the protocol Backend are missing; derive from BackendBase"
        assert isinstance(backend.name, str), "name must be a str"
        assert backend.name.isidentifier(), f"name {backend.name!r} must work as --backend and in file names"

    def test_availability_says_what_is_there_or_how_to_get_it(self) -> None:
        availability = self.backend().availability()
        assert isinstance(availability, Availability), "availability() must return an Availability"
        if availability.can_run:
            assert self.device in availability.devices, f"device {self.device!r} is not among {availability.devices}"
        else:
            assert availability.reason, "a backend that is not usable must say why"
            assert availability.remedy, "a backend that is not usable must say how to get it"

    def test_supports_answers_and_explains(self, scheme: Scheme) -> None:
        support = self.backend().supports(scheme)
        assert isinstance(support.level, Level), "supports() must give a Level"
        assert support.level is not Level.EMULATED, "supports() is about the runtime, not about what is installed here"
        assert support == self.backend().supports(scheme), "supports() must give the same answer each time"
        if support.level is Level.NO:
            assert support.reason, f"{scheme.label} is not supported and no reason is given"
            assert support.nearest, f"{scheme.label} is not supported and nothing nearest is named"

    def test_fp32_is_supported(self) -> None:
        support = self.backend().supports(Scheme.float32())
        assert support.level is not Level.NO, "every backend must run FP32, or nothing can be compared with it"

    def test_unsupported_scheme_is_refused(self, scheme: Scheme, model: ExportedModel, tmp_path: Path) -> None:
        support = support_of(self.backend(), scheme)
        if support.level is not Level.NO:
            pytest.skip(f"{self.backend().name} supports {scheme.label}: {support.level.value}")
        out = tmp_path / "out"
        out.mkdir()
        with pytest.raises(SchemeNotSupported) as refused:
            self.written(model, scheme, out)
        assert support.reason in str(refused.value), "the error must give the reason that supports() gives"
        assert not list(out.iterdir()), "a refused scheme must leave nothing behind"

    def test_quantize_is_deterministic(self, scheme: Scheme, quantized: Callable[[Scheme], Artifact]) -> None:
        first, second = quantized(scheme), quantized(scheme)
        assert first.files == second.files, "the same inputs gave files of other names"
        for name in first.files:
            same = (first.root / name).read_bytes() == (second.root / name).read_bytes()
            assert same, f"the same inputs gave other bytes in {name}"
        assert first.details == second.details, "the same inputs gave other details"

    def test_quantize_writes_only_into_out(
        self, scheme: Scheme, model: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.require(scheme)
        out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
        out.mkdir()
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        before = model.path.read_bytes()
        artifact = self.written(model, scheme, out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "model", "out"], "written outside out"
        assert not list(elsewhere.iterdir()), "written into the working directory"
        assert list(model.path.parent.iterdir()) == [model.path], "written next to the model"
        assert model.path.read_bytes() == before, "the model itself was changed"
        written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert written == set(artifact.files), "artifact.files must name every file that was written, and no other"
        empty = [path.name for path in out.rglob("*") if path.is_dir() and not any(path.iterdir())]
        assert not empty, f"folders were left behind: {empty}"

    def test_failed_quantize_leaves_nothing(
        self, calibrated_scheme: Scheme, model: ExportedModel, tmp_path: Path
    ) -> None:
        self.require(calibrated_scheme)
        out = tmp_path / "out"
        out.mkdir()
        broken = calibration_set(images=_PicturesThatBreak())
        with pytest.raises(_BrokenPicturesError):
            self.written(model, calibrated_scheme, out, broken)
        assert not list(out.iterdir()), "a quantization that failed must leave nothing behind"

    def test_artifact_describes_itself(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        artifact = made(scheme)
        assert artifact.backend == self.backend().name, "artifact.backend must be the name that loads it"
        assert artifact.scheme == scheme, "artifact.scheme must be what was asked for"
        assert artifact.files, "an artifact has at least one file"
        assert artifact.size_on_disk > 0, "an artifact is not empty"
        as_json = json.loads(json.dumps(dict(artifact.details)))
        assert as_json == dict(artifact.details), "details must be JSON values: the manifest keeps them"

    def test_artifact_loads_from_another_place(
        self, scheme: Scheme, quantized: Callable[[Scheme], Artifact], tmp_path: Path
    ) -> None:
        artifact = quantized(scheme)
        images = pictures(3, seed=3)
        before = self.load(artifact).run(images)
        moved = artifact.root.rename(tmp_path / "published")
        read_back = json.loads(json.dumps(dict(artifact.details)))
        after = self.load(replace(artifact, root=moved, details=read_back)).run(images)
        np.testing.assert_array_equal(after, before, "the workspace renames the folder, and the answers changed")

    def test_unknown_device_is_refused(self, made: Callable[[Scheme], Artifact]) -> None:
        artifact = made(Scheme.float32())
        with pytest.raises(FqbenchError):
            self.backend().load(artifact, threads=1, device="no-such-device")

    def test_fp32_answers_like_onnxruntime(self, model: ExportedModel, made: Callable[[Scheme], Artifact]) -> None:
        images = pictures(16, seed=2)
        answers = self.load(made(Scheme.float32())).run(images)
        self.assert_close(answers, onnxruntime_logits(model.path, images), "FP32 differs from onnxruntime's FP32")

    def test_answers_have_the_right_form(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        session = self.load(made(scheme))
        for batch in (1, 2, 7):
            images = pictures(batch, seed=4)
            given = images.copy()
            answers = session.run(images)
            assert isinstance(answers, np.ndarray), "run() must return an array"
            assert answers.dtype == np.float32, f"logits must be float32, not {answers.dtype}"
            assert answers.shape == (batch, len(CLASSES)), f"logits of {batch} images have shape {answers.shape}"
            assert np.isfinite(answers).all(), "logits must be finite"
            np.testing.assert_array_equal(images, given, "run() must not change its input")

    def test_answers_do_not_change(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        session = self.load(made(scheme))
        images = pictures(4, seed=5)
        first = session.run(images)
        kept = first.copy()
        session.run(pictures(4, seed=6))
        np.testing.assert_array_equal(first, kept, "a later call wrote into an earlier answer")
        np.testing.assert_array_equal(session.run(images), kept, "the same images got other answers")

    def test_answers_do_not_depend_on_the_batch(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        session = self.load(made(scheme))
        images = pictures(6, seed=7)
        copies = np.repeat(images[:1], 5, axis=0)
        self.assert_close(
            session.run(copies),
            np.repeat(session.run(images[:1]), 5, axis=0),
            "copies of one image differ from it",
            scheme,
        )
        if scheme.method is Method.PTQ_DYNAMIC:
            return  # its scales come from the batch itself, so only equal images can be compared
        one_by_one = np.concatenate([session.run(images[row : row + 1]) for row in range(len(images))])
        self.assert_close(session.run(images), one_by_one, "a batch differs from its images one by one", scheme)

    def test_threads_do_not_change_the_answers(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        artifact = made(scheme)
        images = pictures(4, seed=8)
        one, two = (self.load(artifact, threads=threads).run(images) for threads in (1, 2))
        self.assert_close(two, one, "two threads give other answers than one", scheme)

    def test_arithmetic_is_plausible(self, scheme: Scheme, made: Callable[[Scheme], Artifact]) -> None:
        arithmetic = self.load(made(scheme)).arithmetic
        level = support_of(self.backend(), scheme).level
        assert 0 <= arithmetic.integer_macs <= arithmetic.total_macs, f"impossible counts: {arithmetic}"
        if not arithmetic.uncounted:
            exact = abs(arithmetic.total_macs - self.macs) <= 0.1 * self.macs
            assert exact, f"{arithmetic.total_macs} multiply-accumulates were counted; one image takes {self.macs}"
        if scheme.is_float:
            assert arithmetic.integer_macs == 0, f"{scheme.label} runs in float"
        if scheme.method is Method.CAST and not arithmetic.uncounted:
            share = arithmetic.half_share
            assert share > 0.5, f"{scheme.label} was loaded, and {share:.0%} run in kernels of its type"
        if not scheme.is_float and level in {Level.NATIVE, Level.PACKED} and not arithmetic.uncounted:
            share = arithmetic.integer_share
            least = 0.0 if scheme.method is Method.PTQ_DYNAMIC else 0.5  # dynamic kernels may exist for few operators
            assert share > least, f"{scheme.label} is called {level.value}, and {share:.0%} run in integer kernels"

    def test_8_bits_mostly_agree_with_fp32(
        self, scheme: Scheme, model: ExportedModel, made: Callable[[Scheme], Artifact]
    ) -> None:
        scheme = exact(scheme)
        artifact = made(scheme)
        if min(scheme.bits, scheme.act_bits) < 8:
            pytest.skip("below 8 bits this model's answers may change")
        images = pictures(64, seed=9)
        answers = self.load(artifact).run(images)
        agreement = float((answers.argmax(axis=1) == onnxruntime_logits(model.path, images).argmax(axis=1)).mean())
        least = 0.85 if scheme.reduce_range else 0.9
        assert agreement >= least, f"{scheme.label} and FP32 agree on {agreement:.0%} of the images"

    def assert_close(
        self, actual: NDArray[Any], expected: NDArray[Any], message: str, scheme: Scheme | None = None
    ) -> None:
        """Compare logits up to the subclass's `rounding`, those of a cast up to that of 16-bit floats."""
        half = scheme is not None and scheme.method is Method.CAST
        tolerance = (HALF_ROUNDING if half else self.rounding) * float(np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=message)


class _BrokenPicturesError(Exception):
    """Raised in the middle of a calibration."""


class _PicturesThatBreak:
    def __len__(self) -> int:
        return 32

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if rows.max() > 0:
            raise _BrokenPicturesError("only the first picture can be read")
        return pictures(len(rows), seed=1)
