"""FP32 on ONNX's reference evaluator: slow, exact, and with no compiled runtime."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, SchemeNotSupported
from fqbench.plugins import Arithmetic, Availability, Level, Support
from fqbench.quant.calibration import CalibrationSet

MODEL = "model.onnx"


class NumpyReference:
    """Runs an FP32 ONNX model in numpy."""

    name = "numpy_reference"

    def availability(self) -> Availability:
        """Return onnx's version: the evaluator is part of it."""
        return Availability(version("onnx"), ("cpu",))

    def supports(self, scheme: Scheme) -> Support:
        """Only FP32 runs here."""
        if scheme.method is Method.NONE:
            return Support(Level.NATIVE)
        return Support(Level.NO, "the reference evaluator runs FP32 only", "--method none --bits 32")

    def quantize(self, model: ExportedModel, scheme: Scheme, calibration: CalibrationSet | None, out: Path) -> Artifact:
        """Copy the model."""
        support = self.supports(scheme)
        if support.level is Level.NO:
            raise SchemeNotSupported(f"{self.name} cannot run {scheme.label}: {support.reason}; try {support.nearest}.")
        shutil.copyfile(model.path, out / MODEL)
        return Artifact(backend=self.name, scheme=scheme, root=out, files=(MODEL,))

    def load(self, artifact: Artifact, *, threads: int, device: str) -> NumpyReferenceSession:
        """Read the model; ``threads`` is left to numpy."""
        if device != "cpu":
            raise InputError(f"{self.name} knows no device {device!r}; use --device cpu.")
        return NumpyReferenceSession(artifact.main_file)


class NumpyReferenceSession:
    """A loaded model."""

    # All of it is float; how much that is, this backend does not know.
    arithmetic = Arithmetic(integer_macs=0, total_macs=0, uncounted=("Conv", "Gemm", "MatMul"))

    def __init__(self, path: Path) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(str(path))

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits = self._evaluator.run(None, {self._evaluator.input_names[0]: images})[0]
        return np.asarray(logits, dtype=np.float32)
