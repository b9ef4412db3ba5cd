"""Somebody else's backend: ONNX's reference evaluator, with options, phases and a number format of its own.

It executes FP32, and 8-bit weights by fake quantization, with one scale per tensor and unsigned asymmetric activations.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.numerics import IntegerFormat, Numerics
from fqbench.contracts.plan import QuantizationPlan
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError
from fqbench.plugins import (
    Arithmetic,
    Availability,
    BackendBase,
    BackendOptions,
    Level,
    Support,
    require_plan,
    require_support,
)

MODEL = "model.onnx"
FORMAT = Numerics(
    activations=IntegerFormat(8, symmetric=False, signed=False),
    weights=IntegerFormat(8, symmetric=True, signed=True, narrow_range=True),
    per_channel=False,
)


class NumpyOptions(BackendOptions):
    """How the evaluator is run."""

    chunk: int = Field(64, ge=1, description="Most images that are evaluated at once.")


class NumpyReference(BackendBase):
    """Runs an ONNX model in numpy."""

    name = "numpy_reference"
    options: NumpyOptions = NumpyOptions()

    def availability(self) -> Availability:
        """Return onnx's version: the evaluator is part of it."""
        return Availability(version("onnx"), ("cpu",))

    def supports(self, scheme: Scheme) -> Support:
        """FP32, and 8 bits by rounding in float."""
        if scheme.method is Method.NONE:
            return Support(Level.NATIVE)
        if scheme.method is Method.PTQ_STATIC and (scheme.bits, scheme.act_bits) == (8, 8):
            return Support(Level.SIMULATED, "it rounds in float")
        return Support(Level.NO, "the reference evaluator rounds to 8 bits only", "--method ptq_static --bits 8")

    def numerics(self, scheme: Scheme) -> Numerics:
        """Unsigned asymmetric activations; weights per tensor, without their lowest level."""
        return FORMAT

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Copy the model, with its weights rounded and its input quantized by a pair of nodes."""
        require_support(self, scheme)
        if scheme.method is Method.NONE:
            model.copy_files(out)
            return Artifact(backend=self.name, scheme=scheme, root=out, files=(MODEL,))
        details = _fake_quantize(require_plan(self, scheme, plan), out / MODEL)
        return Artifact(backend=self.name, scheme=scheme, root=out, files=(MODEL,), details=details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> NumpyReferenceSession:
        """Read the model; ``threads`` is left to numpy."""
        if device != "cpu":
            raise InputError(f"{self.name} has no device {device!r}; use --device cpu.")
        return NumpyReferenceSession(artifact.main_file, self.options.chunk)


class NumpyReferenceSession:
    """A loaded model, which times two parts of a call."""

    # All of it is float; how much that is, this backend does not know.
    arithmetic = Arithmetic(integer_macs=0, total_macs=0, uncounted=("Conv", "Gemm", "MatMul"))

    def __init__(self, path: Path, chunk: int) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(str(path))
        self._chunk = chunk
        self._times: list[tuple[float, float]] = []

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        begun = time.perf_counter()
        name, parts = self._evaluator.input_names[0], np.split(images, range(self._chunk, len(images), self._chunk))
        split = time.perf_counter()
        logits = np.concatenate([self._evaluator.run(None, {name: part})[0] for part in parts])
        self._times.append((split - begun, time.perf_counter() - split))
        return np.asarray(logits, dtype=np.float32)

    def phases(self, last: int | None = None) -> Mapping[str, float]:
        """Return the median milliseconds of splitting and of evaluating."""
        if not self._times:
            return {}
        times = np.median(np.array(self._times[-last:] if last else self._times), axis=0) * 1e3
        return {"split": float(times[0]), "evaluate": float(times[1])}


def _fake_quantize(plan: QuantizationPlan, target: Path) -> dict[str, Any]:
    import onnx
    from onnx import helper, numpy_helper

    model = plan.copied_model()
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.name in plan.weights:
            weight = plan.weights[tensor.name]
            shape = [1] * weight.levels.ndim
            shape[weight.axis] = -1
            values = weight.levels.astype(np.float32) * weight.scale.reshape(shape)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    given = graph.input[0].name
    one = plan.activations[given]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(one.scale), "input_scale"),
            numpy_helper.from_array(np.uint8(one.zero_point), "input_zero_point"),
        ]
    )
    for node in graph.node:
        node.input[:] = ["input_rounded" if name == given else name for name in node.input]
    parameters = ["input_scale", "input_zero_point"]
    graph.node.insert(0, helper.make_node("QuantizeLinear", [given, *parameters], ["input_levels"]))
    graph.node.insert(1, helper.make_node("DequantizeLinear", ["input_levels", *parameters], ["input_rounded"]))
    onnx.save(model, target)
    return {"input_scale": one.scale, "input_zero_point": one.zero_point}
