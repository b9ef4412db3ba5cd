"""The protocols of backends: what every runtime offers, and optional abilities.

A backend derives from `BackendBase` and a session from `SessionBase`, which hold the defaults of everything optional;
both are also protocols, so that a package may as well write all of it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from fqbench.contracts.numerics import Numerics
from fqbench.contracts.runtime import Arithmetic, Availability, Level, Support
from fqbench.errors import PluginError, SchemeNotSupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import QatOptions
    from fqbench.contracts.artifacts import Artifact, ExportedModel
    from fqbench.contracts.plan import QuantizationPlan
    from fqbench.contracts.qat_parameters import QatParameters
    from fqbench.contracts.scheme import Scheme
    from fqbench.contracts.training import Hooks
    from fqbench.quant.calibration import CalibrationSet


WORSE = (Level.NATIVE, Level.PACKED, Level.SIMULATED, Level.NO)


class BackendOptions(BaseModel):
    """Options of one runtime, each with a description; a backend with options derives its own model from this one.

    They say how artifacts are built and executed, not what is quantized: an artifact's bytes do not depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


@runtime_checkable
class Session(Protocol):
    """A loaded artifact."""

    @property
    def arithmetic(self) -> Arithmetic:
        """Where the multiply-accumulates run; an attribute is enough."""
        ...

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        ...

    def phases(self, last: int | None = None) -> Mapping[str, float]:
        """Return the median milliseconds of each part of a call, by name, of the last calls or of all."""
        ...


class SessionBase:
    """A session without phase timings."""

    def phases(self, last: int | None = None) -> Mapping[str, float]:  # noqa: ARG002 - nothing is timed
        """Return no parts."""
        return {}


@dataclass(frozen=True)
class BuildSource:
    """What a build may read in addition to the artifact; nothing on another machine than the one that wrote it.

    Attributes
    ----------
    model : ExportedModel
        The FP32 model that the artifact was made of.
    calibration : callable
        Returns the calibration images, opened when they are asked for.
    """

    model: ExportedModel
    calibration: Callable[[], CalibrationSet]


class Builder(Protocol):
    """The ability to compile artifacts on the machine that runs them."""

    def built_here(self, artifact: Artifact, device: str) -> bool:
        """Whether the artifact can be loaded on this device as it is."""
        ...

    def build_identity(self, device: str) -> Mapping[str, Any]:
        """Return what a build depends on, except artifact and options: runtime version, device (JSON values)."""
        ...

    def build(
        self, artifact: Artifact, out: Path, *, device: str, source: BuildSource | None, timing_cache: Path | None
    ) -> Artifact:
        """Write the compiled artifact's files into ``out``, by the backend's own options."""
        ...

    def next_step(self, artifact: Artifact) -> str:
        """Say in one sentence how to build an artifact elsewhere."""
        ...


class Emulator(Protocol):
    """The ability to execute artifacts on another runtime: evidence about accuracy only."""

    def emulation(self) -> str:
        """Return the runtime that executes them, with its version: ``onnxruntime 1.32.0``."""
        ...

    def emulate(self, artifact: Artifact, *, threads: int) -> Session:
        """Load an artifact for that runtime, on the CPU."""
        ...


class QuantizedTraining(Protocol):
    """A network with fake quantization, to be trained by the training stage."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def hooks(self) -> Hooks:
        """Called around the epochs: freezes BatchNorm and ranges."""
        ...

    def save_weights(self, path: Path) -> None:
        """Write the trained weights under the names of the architecture itself, as safetensors."""
        ...

    def answers(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of the trained network, rounding included."""
        ...

    def learned(self, model: Path, images: NDArray[np.float32]) -> QatParameters:
        """Return the learned scales, for the tensors of the trained weights' exported graph."""
        ...


class Trainer(Protocol):
    """The ability to insert fake quantization into the network of a model (quantization-aware training)."""

    def training(
        self, model: ExportedModel, scheme: Scheme, *, numerics: Numerics, options: QatOptions
    ) -> QuantizedTraining:
        """Return the network of a model, its checkpoint loaded, with fake quantization for a scheme in it."""
        ...


class LayerTimer(Protocol):
    """The ability to say how long single operators of an artifact take, as the runtime's own profiler has it."""

    def layer_times(
        self, artifact: Artifact, images: NDArray[np.float32], *, threads: int, device: str
    ) -> Mapping[str, float]:
        """Return the median milliseconds of each kernel over runs with one image (N, 3, H, W) each.

        A kernel is named as the operator of the FP32 graph that it executes, alone or with others that are fused into
        it; one that executes none, as a conversion between types, has a name of its own.
        """
        ...


@dataclass(frozen=True)
class Abilities:
    """Optional abilities of a backend; None where it lacks one."""

    builder: Builder | None = None
    emulator: Emulator | None = None
    trainer: Trainer | None = None
    layer_timer: LayerTimer | None = None


@runtime_checkable
class Backend(Protocol):
    """A runtime that artifacts are made for and measured on."""

    name: str

    @property
    def options(self) -> BackendOptions:
        """Its own options as set; a class attribute with the defaults is enough."""
        ...

    @property
    def abilities(self) -> Abilities:
        """What it can do beyond `load`."""
        ...

    def availability(self) -> Availability:
        """Return versions and devices, or the reason and the remedy."""
        ...

    def supports(self, scheme: Scheme) -> Support:
        """Return how this runtime executes ``scheme``, independent of the machine."""
        ...

    def numerics(self, scheme: Scheme) -> Numerics:
        """Return the integer formats that its kernels take for a scheme."""
        ...

    def quantize(self, model: ExportedModel, scheme: Scheme, plan: QuantizationPlan | None, out: Path) -> Artifact:
        """Write the artifact's files into ``out``; same inputs, same bytes; FP32 needs no ``plan``."""
        ...

    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        """Load an artifact that this backend wrote."""
        ...


def support_of(backend: Backend, scheme: Scheme) -> Support:
    """Return how a backend executes a scheme, overrides included: the lowest level of its layers."""
    worst = backend.supports(scheme.uniform)
    for override in scheme.overrides:
        bits, act_bits = override.bits or scheme.bits, override.act_bits or scheme.act_bits
        if override.quantize is False or bits == 32:
            continue  # left in float, which every runtime executes
        found = backend.supports(scheme.uniform.model_copy(update={"bits": bits, "act_bits": act_bits}))
        if found.level is Level.NO:
            which = override.name or override.role or override.op
            return replace(found, reason=f"layers {which!r}: {found.reason}")
        worst = max(worst, found, key=lambda support: WORSE.index(support.level))
    return worst


def require_support(backend: Backend, scheme: Scheme) -> Support:
    """Return how a backend executes a scheme.

    Raises
    ------
    SchemeNotSupported
        The backend cannot execute it; the message has the layers, the reason and the nearest supported scheme.
    """
    support = support_of(backend, scheme)
    if support.level is Level.NO:
        hint = f"try {support.nearest}" if support.nearest else "`fqbench doctor` lists what each backend executes"
        raise SchemeNotSupported(f"{backend.name} cannot run {scheme.label}: {support.reason}; {hint}.")
    return support


def require_plan(backend: Backend, scheme: Scheme, plan: QuantizationPlan | None) -> QuantizationPlan:
    """Return the plan of a scheme that needs one.

    Raises
    ------
    PluginError
        None was given.
    """
    if plan is None:
        raise PluginError(f"{backend.name} needs a quantization plan for {scheme.label}; give one.")
    return plan


def packed_support(scheme: Scheme) -> Support:
    """Return the support of a runtime with 8-bit kernels, which widens fewer bits when an artifact is loaded."""
    if scheme.bits == 8:
        return Support(Level.NATIVE)
    return Support(Level.PACKED, f"{scheme.bits}-bit weights are stored packed and widened when they are loaded")


def float_support(scheme: Scheme, *precisions: str) -> Support:
    """Return the support of a float scheme by a runtime that can be asked for these 16-bit types.

    Whether the machine has kernels for a type is found out when an artifact is loaded, which is refused where it has
    none.
    """
    if scheme.precision is None or scheme.precision in precisions:
        return Support(Level.NATIVE)
    if not precisions:
        return Support(Level.NO, "it is not asked for 16-bit floats", "--method none")
    reason = f"its float models can be cast to {' or '.join(precisions)}, not to {scheme.precision}"
    return Support(Level.NO, reason, f"--precision {precisions[0]}")


class BackendBase:
    """Defaults: no options, no abilities, U8 activations and per-channel S8 weights."""

    options: BackendOptions = BackendOptions()

    @property
    def abilities(self) -> Abilities:
        """None beyond `load`."""
        return Abilities()

    def numerics(self, scheme: Scheme) -> Numerics:
        """Return unsigned asymmetric activations per tensor, and signed symmetric weights per channel."""
        return Numerics.of(scheme)
