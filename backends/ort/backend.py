"""ONNX Runtime: Q/DQ models by its own quantizer, and what its optimised graph really computes in integers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, PluginError, UnavailableError
from fqbench.optional import require
from fqbench.plugins import Arithmetic, Availability, BackendBase, Level, SessionBase, Support, require_support
from fqbench.quant.activations import activations
from fqbench.quant.graph import clean as clean_graph
from fqbench.quant.graph import quiet_quantizer
from fqbench.quant.ranges import TensorRanges, tensor_ranges
from fqbench.quant.weights import Weight, correct_biases, scales, weights_of

from .arithmetic import measure_arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet
    from fqbench.quant.qat_parameters import QatParameters

MODEL = "model.onnx"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# With Conv: all multiply-accumulates of a CNN become integer, and slower than float, which `bench` then shows.
DYNAMIC_OPERATORS = ("Conv", "MatMul", "Gemm")


class OnnxRuntimeBackend(BackendBase):
    """FP32, static (Q/DQ) and dynamic 8-bit models on ONNX Runtime."""

    name = "ort"

    def availability(self) -> Availability:
        """Return the version, and the devices whose provider this build has."""
        try:
            ort = require("onnxruntime")
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
        if scheme.method is Method.MIXED_PRECISION:
            return Support(Level.NO, f"method {scheme.method.value} is not built for it yet", nearest)
        if scheme.method is not Method.PTQ_DYNAMIC and (scheme.bits, scheme.act_bits) == (4, 8):
            return Support(Level.SIMULATED, "it widens 4-bit weights to float and convolves in float")
        if scheme.bits != 8 or scheme.act_bits != 8:
            reason = f"{scheme.bits}-bit weights with {scheme.act_bits}-bit activations have no integer kernels there"
            return Support(Level.NO, reason, nearest)
        return Support(Level.NATIVE)

    def quantize(self, model: ExportedModel, scheme: Scheme, calibration: CalibrationSet | None, out: Path) -> Artifact:
        """Write ``model.onnx`` into ``out``: Q/DQ with per-channel S8 or S4 weights and U8 activations, or dynamic.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        """
        require_support(self, scheme)
        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        files = [MODEL]
        if scheme.method is Method.NONE:
            for file in model.files:
                shutil.copyfile(file, out / file.name)  # the graph names its external data, so names stay
            files = [file.name for file in model.files]
        else:
            with tempfile.TemporaryDirectory(dir=out, prefix=".preprocess-") as scratch, quiet_quantizer():
                clean = clean_graph(model.path, Path(scratch) / MODEL)
                if scheme.method is Method.PTQ_STATIC:
                    if calibration is None:
                        raise PluginError(f"{self.name} needs a calibration set for {scheme.label}; give one.")
                    details |= _quantize_static(clean, scheme, tensor_ranges(model, scheme, calibration), out / MODEL)
                elif scheme.method is Method.QAT:
                    if model.learned is None:
                        raise PluginError(f"{model.name} was not trained with quantization; give it what was learnt.")
                    _quantize_learned(clean, scheme, model.learned, out / MODEL)
                else:
                    _quantize_dynamic(clean, out / MODEL)
            details["operators"] = _operators(out / MODEL)
        return Artifact(backend=self.name, scheme=scheme, root=out, files=tuple(files), details=details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> OnnxRuntimeSession:
        """Open a session with ``threads`` threads inside an operator, and operators one after another.

        Raises
        ------
        UnavailableError
            This build of ONNX Runtime has no provider for the device.
        """
        ort = require("onnxruntime")
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


class OnnxRuntimeSession(SessionBase):
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


def _quantize_static(model: Path, scheme: Scheme, ranges: TensorRanges, out: Path) -> dict[str, Any]:
    """Insert Q/DQ nodes with these ranges."""
    graph = _loaded(model)
    scale = {weight.name: scales(weight.rows, scheme.bits, scheme.weight_rule) for weight in weights_of(graph)}
    corrected = correct_biases(graph, ranges, scale, scheme.bits) if scheme.bias_correction == "on" else 0
    given = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.by_name.items()}
    fixed = {weight.name: _fixed(weight, scale[weight.name], scheme.bits) for weight in weights_of(graph)}
    excluded = _unknown(graph, _kinds(), given)
    _insert(graph, scheme.bits, given=given, fixed=fixed, excluded=excluded, out=out)
    return {"calibration": ranges.details(), "corrected_biases": corrected}


def _quantize_learned(model: Path, scheme: Scheme, learned: QatParameters, out: Path) -> None:
    """Insert Q/DQ nodes with exactly the scales that were learnt, where training had any; all else stays in float."""
    from onnxruntime.quantization import QuantType

    graph = _loaded(model)
    grids = dict(learned.activations)
    for alias, name in activations(graph).aliases.items():
        if name in grids:
            grids.setdefault(alias, grids[name])
    given = {name: (np.float32(grid.low), np.float32(grid.high)) for name, grid in grids.items()}
    fixed = {
        name: [
            {
                "quant_type": QuantType.QUInt8,
                "scale": np.array(grid.scale, np.float32),
                "zero_point": np.array(grid.zero_point, np.uint8),
            }
        ]
        for name, grid in grids.items()
    }
    weights = weights_of(graph)
    floats = {weight.name for weight in weights if weight.path not in learned.weights}
    for weight in weights:
        if weight.name not in floats:
            fixed[weight.name] = _fixed(weight, learned.weights[weight.path], scheme.bits)
    in_float = [node.name for node in graph.graph.node if floats & set(node.input)]
    excluded = [*in_float, *_unknown(graph, _kinds(), given)]
    _insert(graph, scheme.bits, given=given, fixed=fixed, excluded=excluded, out=out)


def _insert(
    graph: Any,
    bits: int,
    *,
    given: Mapping[str, tuple[np.float32, np.float32]],
    fixed: Mapping[str, list[dict[str, Any]]],
    excluded: Sequence[str],
    out: Path,
) -> None:
    """Let ONNX Runtime's own quantizer, which calibrates nothing itself, insert Q/DQ nodes."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    quantizer = QDQQuantizer(
        graph,
        True,  # per channel
        False,  # no reduced range
        QuantType.QInt4 if bits == 4 else QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, dict(given)),
        [],
        list(excluded),
        _kinds(),
        {"TensorQuantOverrides": dict(fixed)},
    )
    quantizer.quantize_model()
    onnx.save(quantizer.model.model, out)


def _loaded(model: Path) -> Any:
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    return load_model_with_shape_infer(model)


def _kinds() -> list[str]:
    """Types of all operators that ONNX Runtime quantizes."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def _fixed(weight: Weight, scale: NDArray[np.float32], bits: int) -> list[dict[str, Any]]:
    """Tell the quantizer the scale of each channel of a weight."""
    from onnxruntime.quantization import QuantType

    kind = QuantType.QInt4 if bits == 4 else QuantType.QInt8
    channels: list[dict[str, Any]] = [
        {"quant_type": kind, "scale": np.float32(value), "zero_point": np.int8(0)} for value in scale
    ]
    channels[0]["axis"] = weight.axis
    return channels


def _unknown(graph: Any, kinds: Sequence[str], given: Mapping[str, object]) -> list[str]:
    """Name the operators that touch an activation without a range: they stay in float."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    floats = {
        value.name
        for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)
        if value.type.tensor_type.elem_type == 1
    } - constants
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in kinds and any(name in floats and name not in given for name in (*node.input, *node.output))
    ]


def _quantize_dynamic(model: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(model),
        str(out),
        op_types_to_quantize=list(DYNAMIC_OPERATORS),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def _operators(model: Path) -> dict[str, int]:
    import onnx

    counts: dict[str, int] = {}
    for node in onnx.load(model, load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))
