"""PyTorch as a runtime: FP32 eagerly, 8 bits in FX's integer kernels, 4 and 2 bits by fake quantization."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, UnavailableError
from fqbench.optional import installed_version, require
from fqbench.plugins import (
    Abilities,
    Availability,
    BackendBase,
    Level,
    Support,
    float_support,
    packed_support,
    require_plan,
    require_support,
)

if TYPE_CHECKING:
    from fqbench.config import QatOptions
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.numerics import Numerics
    from fqbench.contracts.plan import QuantizationPlan

    from .session import TorchSession
    from .tuning import FakeQuantizedTraining

DEVICE = "cpu"
RESCALED = "it quantizes the torch network itself, and rescaling changes the weights of the exported graph"

logger = logging.getLogger(__name__)


class TorchFxBackend(BackendBase):
    """FX graph mode: static and dynamic quantization after training, and training with fake quantization."""

    name = "torch_fx"

    @property
    def abilities(self) -> Abilities:
        """It trains with fake quantization."""
        return Abilities(trainer=self)

    def availability(self) -> Availability:
        """Return torch's version."""
        return torch_availability()

    def supports(self, scheme: Scheme) -> Support:
        """Say which schemes run in integer kernels, and which in float with rounded values."""
        if scheme.is_float:
            return float_support(scheme, "bf16", "fp16")
        if scheme.method is Method.PTQ_DYNAMIC and (scheme.bits, scheme.act_bits) != (8, 8):
            return Support(Level.NO, "its dynamic kernels are 8-bit", "--method ptq_dynamic --bits 8")
        if scheme.rescaling == "on":
            return Support(Level.NO, RESCALED, "--rescaling off")
        if scheme.bits == 32 or scheme.act_bits > 8:
            return Support(Level.NO, "its kernels take 8-bit integers on both sides", "--bits 8 --act-bits 8")
        if scheme.act_bits < 8:
            return Support(Level.SIMULATED, "it has no activations below 8 bits: values are rounded in float")
        return packed_support(scheme)

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write ``model.json`` and ``weights.safetensors`` into ``out``.

        Raises
        ------
        SchemeNotSupported
            ``supports`` said no, and why.
        InputError
            The model came as ONNX, or FX cannot trace it.
        """
        require_support(self, scheme)
        require("torch", extra="train")
        from . import quantizing, storage

        details: dict[str, Any] = {"input_shape": list(model.input_shape)}
        if scheme.is_float:
            quantizing.copy_float(model, out)
        else:
            dynamic = scheme.method is Method.PTQ_DYNAMIC
            quantize = quantizing.quantize_dynamic if dynamic else quantizing.quantize_static
            details |= quantize(model, scheme, require_plan(self, scheme, plan), out)
        if details.get("not_traced"):
            logger.warning(
                "%s: FX cannot trace these modules, which stay in float: %s; %d of %d layers, %.0f %% of the "
                "multiply-accumulates, are quantized. A backend that starts from ONNX quantizes the others, too.",
                model.name,
                ", ".join(sorted(details["not_traced"])),
                details["quantized_layers"],
                details["layers"],
                100 * details["quantized_macs"],
            )
        details |= quantizing.needed_code(model)
        return Artifact(self.name, scheme, out, (storage.DESCRIPTION, storage.TENSORS), details)

    def load(self, artifact: Artifact, *, threads: int, device: str) -> TorchSession:
        """Build the network again, with integer kernels where the scheme is 8-bit.

        Raises
        ------
        InputError
            Another device than the CPU.
        UnavailableError
            The CPU has no instructions for the type of a cast.
        DataError
            The artifact is damaged, or this torch and timm build another network.
        """
        refuse_device(self.name, device)
        from . import casting, quantizing
        from .session import TorchSession

        shape = tuple(artifact.details["input_shape"])
        if artifact.scheme.precision is not None:
            network = casting.cast(
                quantizing.load(artifact.root, artifact.scheme, native=True), artifact.scheme.precision
            )
            return TorchSession(network, shape, threads)
        native = self.supports(artifact.scheme.uniform).level.has_speed
        return TorchSession(quantizing.load(artifact.root, artifact.scheme, native=native), shape, threads)

    def training(
        self, model: ExportedModel, scheme: Scheme, *, numerics: Numerics, options: QatOptions
    ) -> FakeQuantizedTraining:
        """Return the network of a model with fake quantization in it, ready to be trained.

        Raises
        ------
        InputError
            The model came as ONNX, or FX cannot trace it.
        """
        require("torch", extra="train")
        from .tuning import FakeQuantizedTraining

        return FakeQuantizedTraining.begin(model, scheme, symmetric=numerics.activations.symmetric, options=options)


def torch_availability() -> Availability:
    """Return torch's version, or how to get it."""
    try:
        version = installed_version("torch", extra="train")  # without importing it, which takes seconds
        installed_version("safetensors", extra="train")
        installed_version("timm", extra="train")
    except UnavailableError as error:
        return Availability(None, reason=str(error), remedy="pip install 'fqbench[train]'")
    return Availability(version, (DEVICE,))


def refuse_device(name: str, device: str) -> None:
    """Raise InputError for any device but the CPU."""
    if device != DEVICE:
        raise InputError(f"{name} runs on the CPU alone, not on {device!r}; use --device {DEVICE}.")
