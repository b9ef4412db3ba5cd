"""ONNX Runtime: Q/DQ models by its own quantizer, and what its optimised graph really computes in integers."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.artifacts import Artifact
from fqbench.errors import InputError, PluginError, SchemeNotSupported, UnavailableError
from fqbench.optional import require
from fqbench.plugins import Arithmetic, Availability, Level, Support
from fqbench.quant.scheme import Method, Scheme

from .ort_arithmetic import measure_arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet

MODEL = "model.onnx"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# With Conv: all multiply-accumulates of a CNN become integer, and slower than float, which `bench` then shows.
DYNAMIC_OPERATORS = ("Conv", "MatMul", "Gemm")


class OnnxRuntimeBackend:
    """FP32, static (Q/DQ) and dynamic 8-bit models on ONNX Runtime."""

    name = "ort"

    def availability(self) -> Availability:
        """Return the version, and the devices whose provider this build has."""
        try:
            ort = require("onnxruntime", extra="train")
        except UnavailableError as error:
            return Availability(None, reason=str(error), remedy="pip install onnxruntime")
        providers = ort.get_available_providers()
        devices = tuple(device for device, provider in PROVIDERS.items() if provider in providers)
        return Availability(ort.__version__, devices)

    def supports(self, scheme: Scheme) -> Support:
        """Say which schemes run in integer kernels."""
        if scheme.method is Method.NONE:
            return Support(Level.NATIVE)
        nearest = "--method ptq_static --bits 8"
        if scheme.method not in {Method.PTQ_STATIC, Method.PTQ_DYNAMIC}:
            return Support(Level.NO, f"method {scheme.method.value} is not built for it yet", nearest)
        if scheme.bits != 8 or scheme.act_bits != 8:
            reason = f"{scheme.bits}-bit weights with {scheme.act_bits}-bit activations have no integer kernels there"
            return Support(Level.NO, reason, nearest)
        if scheme.needs_calibration and scheme.range_rule != "minmax":
            return Support(Level.NO, f"range rule {scheme.range_rule!r} is not known to it", "--range-rule minmax")
        return Support(Level.NATIVE)

    def quantize(self, model: ExportedModel, scheme: Scheme, calibration: CalibrationSet | None, out: Path) -> Artifact:
        """Write ``model.onnx`` into ``out``: Q/DQ with per-channel S8 weights and U8 activations, or dynamic.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        """
        support = self.supports(scheme)
        if support.level is Level.NO:
            raise SchemeNotSupported(f"{self.name} cannot run {scheme.label}: {support.reason}; try {support.nearest}.")
        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        if scheme.method is Method.NONE:
            shutil.copyfile(model.path, out / MODEL)
        else:
            with tempfile.TemporaryDirectory(dir=out, prefix=".preprocess-") as scratch, _quiet():
                clean = _shape_inferred(model.path, Path(scratch))
                if scheme.method is Method.PTQ_STATIC:
                    if calibration is None:
                        raise PluginError(f"{self.name} needs a calibration set for {scheme.label}; give one.")
                    _quantize_static(clean, calibration, out / MODEL)
                else:
                    _quantize_dynamic(clean, out / MODEL)
            details["operators"] = _operators(out / MODEL)
        return Artifact(backend=self.name, scheme=scheme, root=out, files=(MODEL,), details=details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> OnnxRuntimeSession:
        """Open a session with ``threads`` threads inside an operator, and operators one after another.

        Raises
        ------
        UnavailableError
            This build of ONNX Runtime has no provider for the device.
        """
        ort = require("onnxruntime", extra="train")
        provider = PROVIDERS.get(device)
        if provider is None:
            raise InputError(f"{self.name} knows no device {device!r}; choose one of: {', '.join(PROVIDERS)}.")
        if provider not in ort.get_available_providers():
            raise UnavailableError(
                f"this ONNX Runtime has no {provider}; install the build for {device}, or use --device cpu."
            )
        session = ort.InferenceSession(artifact.main_file, _session_options(threads), providers=[provider])
        shape = tuple(artifact.details["input_shape"])
        return OnnxRuntimeSession(session, measure_arithmetic(artifact.main_file, provider, shape))


class OnnxRuntimeSession:
    """A loaded ONNX model."""

    def __init__(self, session: Any, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self._run = session.run
        self._input = session.get_inputs()[0].name

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits: NDArray[np.float32] = self._run(None, {self._input: images})[0]
        return logits


def _session_options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of one session would spin on the cores that the next one needs when several are measured in turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _shape_inferred(model: Path, scratch: Path) -> Path:
    """Fold constants and BatchNormalization and infer shapes, as ONNX Runtime's quantizer expects."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    clean = scratch / MODEL
    quant_pre_process(str(model), str(clean), skip_symbolic_shape=True)
    return clean


def _quantize_static(model: Path, calibration: CalibrationSet, out: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(model),
        str(out),
        _reader(model, calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _quantize_dynamic(model: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(model),
        str(out),
        op_types_to_quantize=list(DYNAMIC_OPERATORS),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def _reader(model: Path, calibration: CalibrationSet) -> Any:
    """Feed the calibrator image by image, so that no range depends on a batch size."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    name = onnx.load(model, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = calibration.batches(1)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    return Reader()


def _operators(model: Path) -> dict[str, int]:
    import onnx

    counts: dict[str, int] = {}
    for node in onnx.load(model, load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer warns through the root logger about steps that are taken here already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
