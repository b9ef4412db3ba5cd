"""ONNX Runtime: Q/DQ models by its own quantizer, and what its optimised graph really computes in integers."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, UnavailableError
from fqbench.optional import require
from fqbench.plugins import (
    Abilities,
    Arithmetic,
    Availability,
    BackendBase,
    Level,
    SessionBase,
    Support,
    float_support,
    packed_support,
    require_plan,
    require_support,
)
from fqbench.quant.graph import quiet_quantizer
from fqbench.quant.half import half_graph
from fqbench.quant.packed_onnx import widened, write_packed

from .arithmetic import DISABLED, measure_arithmetic
from .layer_times import profiled_times
from .placement import write_placed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.plan import QuantizationPlan

MODEL = "model.onnx"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Not Conv: with it, dynamic INT8 runs at 0.13x to 0.24x of FP32's speed (docs/decisions/0004).
DYNAMIC_OPERATORS = ("MatMul", "Gemm")


class OnnxRuntimeBackend(BackendBase):
    """FP32, static (Q/DQ) and dynamic 8-bit models on ONNX Runtime."""

    name = "ort"

    @property
    def abilities(self) -> Abilities:
        """Times of single layers."""
        return Abilities(layer_timer=self)

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
        if scheme.is_float:
            return float_support(scheme, "fp16")  # ONNX has no bfloat16 convolutions before opset 22
        nearest = "--method ptq_static --bits 8"
        if scheme.method is Method.PTQ_DYNAMIC and (scheme.bits, scheme.act_bits) != (8, 8):
            return Support(Level.NO, "its dynamic kernels are 8-bit", "--method ptq_dynamic --bits 8")
        if scheme.bits == 32 or scheme.act_bits == 32:
            return Support(Level.NO, "its kernels take integers on both sides", nearest)
        if scheme.act_bits != 8:
            return Support(Level.SIMULATED, f"its kernels take 8-bit activations: {scheme.act_bits} bits are simulated")
        return packed_support(scheme)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write ``model.onnx`` into ``out``: Q/DQ with per-channel weights and U8 activations, or dynamic.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        """
        require_support(self, scheme)
        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        if scheme.method is Method.NONE:
            return Artifact(self.name, scheme, out, model.copy_files(out), details)
        if scheme.method is Method.CAST:
            import onnx

            onnx.save(half_graph(model.path), out / MODEL)
            return Artifact(self.name, scheme, out, (MODEL,), details)
        plan = require_plan(self, scheme, plan)
        files: tuple[str, ...] = (MODEL,)
        if scheme.method is Method.PTQ_DYNAMIC:
            _quantize_dynamic(plan, out / MODEL)
        else:
            files, facts = write_packed(write_placed(plan), plan, out / MODEL)
            details |= facts
        details["operators"] = _operators(out / MODEL)
        return Artifact(self.name, scheme, out, files, details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> OnnxRuntimeSession:
        """Open a session with ``threads`` threads inside an operator, and operators one after another.

        Raises
        ------
        UnavailableError
            This build of ONNX Runtime has no provider for the device, or the provider no kernels for the type.
        """
        ort = require("onnxruntime")
        provider = PROVIDERS.get(device)
        if provider is None:
            raise InputError(f"{self.name} has no device {device!r}; choose one of: {', '.join(PROVIDERS)}.")
        if provider not in ort.get_available_providers():
            raise UnavailableError(
                f"this ONNX Runtime has no {provider}; install the build for {device} "
                "(pip install 'fqbench[ort-gpu]'), or use --device cpu."
            )
        model = _loadable(artifact)
        providers = list(dict.fromkeys((provider, PROVIDERS["cpu"])))
        settings = {"providers": providers, "disabled_optimizers": DISABLED}
        session = ort.InferenceSession(model, _session_options(threads), **settings)
        if provider not in session.get_providers():
            raise UnavailableError(
                f"ONNX Runtime cannot use its {provider} here and would fall back to the CPU; check the GPU's driver "
                "and CUDA, or use --device cpu."
            )
        shape = tuple(artifact.details["input_shape"])
        loaded = OnnxRuntimeSession(session, lambda: measure_arithmetic(model, provider, shape))
        if artifact.scheme.precision is not None and not loaded.arithmetic.half_macs:
            raise UnavailableError(
                f"ONNX Runtime's {provider} has no {artifact.scheme.precision} kernels here: its optimized graph "
                "computes in float32 instead; use --device cuda, or another backend for --method cast."
            )
        return loaded

    def layer_times(
        self, artifact: Artifact, images: NDArray[np.float32], *, threads: int, device: str
    ) -> dict[str, float]:
        """Return the median milliseconds of each kernel, by the operator that it executes."""
        providers = list(dict.fromkeys((PROVIDERS[device], PROVIDERS["cpu"])))
        return profiled_times(_loadable(artifact), _session_options(threads), providers, images)


class OnnxRuntimeSession(SessionBase):
    """A loaded ONNX model.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        What answers.
    count : callable
        Counts the multiply-accumulates; called when they are asked for, since it loads the model a second time.
    """

    def __init__(self, session: Any, count: Callable[[], Arithmetic]) -> None:
        self._count = count
        self._run = session.run
        self._input = session.get_inputs()[0].name

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """Where the multiply-accumulates run."""
        return self._count()

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits: NDArray[np.float32] = self._run(None, {self._input: images})[0]
        return logits


def _loadable(artifact: Artifact) -> Path | bytes:
    """Return what a session opens: the file, or the graph with weights of fewer bits widened to 8."""
    return (None if artifact.scheme.is_float else widened(artifact.main_file)) or artifact.main_file


def _session_options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of one session would spin on the cores that the next one needs when several are measured in turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _quantize_dynamic(plan: QuantizationPlan, out: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".dynamic-") as scratch, quiet_quantizer():
        source = Path(scratch) / MODEL
        onnx.save(plan.model, source)
        quantize_dynamic(
            str(source),
            str(out),
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            nodes_to_exclude=sorted(plan.float_nodes),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def _operators(model: Path) -> dict[str, int]:
    import onnx

    return dict(sorted(Counter(node.op_type for node in onnx.load(model, load_external_data=False).graph.node).items()))
