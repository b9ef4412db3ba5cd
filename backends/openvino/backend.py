"""OpenVINO: Q/DQ models with the nodes where its transformations want them, compiled when they are loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import DataError, FqbenchError, InputError, UnavailableError
from fqbench.optional import require
from fqbench.plugins import (
    Availability,
    BackendBase,
    Level,
    Support,
    float_support,
    packed_support,
    require_plan,
    require_support,
)
from fqbench.quant.packed_onnx import widened, write_packed

from .options import OpenVinoOptions
from .placement import write_placed
from .session import OpenVinoSession

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.plan import QuantizationPlan

MODEL = "model.onnx"
PORTABLE = "portable"  # what is written without OpenVINO
DEVICES = ("cpu", "gpu", "npu")
UNKNOWN = re.compile(r"No conversion rule found for operations: (.+)")


class OpenVinoBackend(BackendBase):
    """FP32 and 8-bit models on OpenVINO; GPU and NPU are chosen by name, and have not been tried."""

    name = "openvino"
    options: OpenVinoOptions = OpenVinoOptions()

    def availability(self) -> Availability:
        """Return the version and OpenVINO's devices; artifacts can be written without it."""
        try:
            openvino = require("openvino", extra="openvino")
        except UnavailableError as error:
            remedy = "pip install 'fqbench[openvino]'"
            return Availability(None, reason=str(error), remedy=remedy, writer=PORTABLE)
        core = openvino.Core()
        devices = [name for name in core.available_devices if _kind(name) in DEVICES]
        names = {name.lower(): str(core.get_property(name, "FULL_DEVICE_NAME")) for name in devices if name != "CPU"}
        version = str(openvino.__version__).partition("-")[0]
        return Availability(version, tuple(map(str.lower, devices)), writer=PORTABLE, device_names=names)

    def supports(self, scheme: Scheme) -> Support:
        """Say which schemes run in integer kernels."""
        if scheme.is_float:
            return float_support(scheme, "bf16", "fp16")
        nearest = "--method ptq_static --bits 8"
        if scheme.method not in {Method.PTQ_STATIC, Method.QAT}:
            reason = f"method {scheme.method.value} is not built for it"
            if scheme.method is Method.PTQ_DYNAMIC:
                reason = "its integer kernels take activation ranges from constants of the graph"
            return Support(Level.NO, reason, nearest)
        if scheme.bits == 32 or scheme.act_bits == 32:
            return Support(Level.NO, "its kernels take integers on both sides", nearest)
        if scheme.act_bits != 8:
            return Support(Level.NO, f"its kernels take 8-bit activations, not {scheme.act_bits}-bit ones", nearest)
        return packed_support(scheme)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write ``model.onnx`` into ``out``; OpenVINO reads ONNX itself.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        """
        require_support(self, scheme)
        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        if scheme.is_float:
            return Artifact(self.name, scheme, out, model.copy_files(out), details)
        plan = require_plan(self, scheme, plan)
        files, facts = write_packed(write_placed(plan), plan, out / MODEL)
        return Artifact(self.name, scheme, out, files, details | facts)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> OpenVinoSession:
        """Compile a model for a device, in FP32 where it is neither quantized nor cast.

        Raises
        ------
        InputError
            OpenVINO has no device of this name.
        UnavailableError
            OpenVINO is not installed, does not see the device here, does not know an operator of the model, or the
            device has no kernels for the type.
        DataError
            OpenVINO cannot read or compile the model.
        """
        if _kind(device) not in DEVICES:
            raise InputError(f"{self.name} knows no device {device!r}; choose one of: {', '.join(DEVICES)}.")
        openvino = require("openvino", extra="openvino")
        core = openvino.Core()
        target = device.upper()
        here = core.available_devices
        if target not in {*here, *(name.partition(".")[0] for name in here)}:
            seen = ", ".join(map(str.lower, here)) or "none"
            raise UnavailableError(f"OpenVINO sees no {device} here (devices: {seen}); install its driver or use cpu.")
        packed, precision = not artifact.scheme.is_float, artifact.scheme.precision
        source = (widened(artifact.main_file) if packed else None) or artifact.main_file
        settings = self._settings(target, threads, precision)
        shape = tuple(artifact.details["input_shape"])

        def model_of(batch: int) -> Any:
            model = core.read_model(source)
            model.reshape({model.input(0): [batch, *shape]})
            return model

        try:
            session = OpenVinoSession(
                model_of, lambda model: core.compile_model(model, target, settings), artifact.batch or 1
            )
        except RuntimeError as error:
            raise _failure(error, artifact.id or artifact.label, device) from error
        if precision is not None and session.precisions != {precision}:
            # It takes the hint for a wish: a CPU without fp16 computes in bf16, one without either in f32.
            others = ", ".join(sorted(session.precisions)) or "integers"
            raise UnavailableError(
                f"OpenVINO has no {precision} kernels for this {target}: its executed graph computes in {others} "
                "instead; use --precision bf16 on a CPU that has it (`fqbench doctor`), or --method none."
            )
        return session

    def _settings(self, target: str, threads: int, precision: str | None) -> dict[str, Any]:
        # Without the hint OpenVINO computes FP32 models in bf16 on CPUs that have it.
        hint = {"bf16": "bf16", "fp16": "f16", None: "f32"}[precision]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": self.options.streams}
        if target == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        elif target.startswith("NPU") and precision is None:
            del settings["INFERENCE_PRECISION_HINT"]  # it has no float32
        if self.options.cache_dir is not None:
            settings["CACHE_DIR"] = str(self.options.cache_dir)
        return settings


def _failure(error: RuntimeError, what: str, device: str) -> FqbenchError:
    """Return OpenVINO's reason in one sentence; it ends a long text, or stands before an address."""
    said = str(error).strip()
    unknown = UNKNOWN.search(said)
    if unknown is not None:
        return UnavailableError(
            f"OpenVINO has no operator {unknown[1]}, which {what} needs; use another backend (`fqbench doctor`)."
        )
    return DataError(f"OpenVINO cannot run {what} on {device}: {said.splitlines()[-1]}")


def _kind(device: str) -> str:
    return device.lower().partition(".")[0]
