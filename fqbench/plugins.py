"""The protocols of backends and samplers, and how plug-ins are found: by entry points alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from fqbench.errors import PluginError, UnavailableError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.config import BuildOptions, QatOptions
    from fqbench.contracts.artifacts import Artifact, ExportedModel
    from fqbench.contracts.scheme import Scheme
    from fqbench.models.train import Hooks
    from fqbench.quant.calibration import CalibrationSet
    from fqbench.quant.qat_parameters import QatParameters

BACKENDS = "fqbench.backends"
SAMPLERS = "fqbench.calib"


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can be used on this machine; if not, why, and how to get it."""

    version: str | None
    devices: tuple[str, ...] = ()
    reason: str = ""
    remedy: str = ""

    @property
    def usable(self) -> bool:
        """True where the runtime can load artifacts."""
        return self.version is not None and bool(self.devices)


class Level(StrEnum):
    """How a runtime executes a scheme (DESIGN §6)."""

    NATIVE = "native"
    PACKED = "packed"
    SIMULATED = "simulated"
    EMULATED = "emulated"
    NO = "no"


@dataclass(frozen=True)
class Support:
    """What a backend can do with a scheme; ``reason`` and ``nearest`` say why not, and what to ask for instead."""

    level: Level
    reason: str = ""
    nearest: str = ""


@dataclass(frozen=True)
class Arithmetic:
    """Where a loaded model's multiply-accumulates run, read from the runtime's own optimised graph.

    Attributes
    ----------
    integer_macs, total_macs : int
        Multiply-accumulates of one image that run in integer kernels, and all that were counted.
    uncounted : tuple of str
        Operator types that multiply but that could not be counted; the share is a lower bound where there are any.
    """

    integer_macs: int
    total_macs: int
    uncounted: tuple[str, ...] = ()

    @property
    def integer_share(self) -> float:
        """Share of multiply-accumulates in integer kernels, 0 to 1; NaN where nothing multiplies."""
        return self.integer_macs / self.total_macs if self.total_macs else float("nan")


@runtime_checkable
class Session(Protocol):
    """A loaded artifact that answers."""

    arithmetic: Arithmetic

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A runtime that artifacts are made for and measured on."""

    name: str

    def availability(self) -> Availability:
        """Return version and devices, or why not and how to get it."""
        ...

    def supports(self, scheme: Scheme) -> Support:
        """Say how this runtime executes ``scheme``."""
        ...

    def quantize(self, model: ExportedModel, scheme: Scheme, calibration: CalibrationSet | None, out: Path) -> Artifact:
        """Write the artifact's files into ``out``; same inputs, same bytes; no ``calibration`` where none is needed."""
        ...

    def load(self, artifact: Artifact, *, threads: int, device: str) -> Session:
        """Load an artifact that this backend wrote."""
        ...


@runtime_checkable
class Emulator(Protocol):
    """A backend whose artifacts another runtime can execute where its own is not: the numbers in the graph, no more."""

    def emulation(self) -> str:
        """Return what executes them, with its version: ``onnxruntime 1.32.0``."""
        ...

    def emulate(self, artifact: Artifact, *, threads: int) -> Session:
        """Load an artifact for that runtime, on the CPU."""
        ...


@runtime_checkable
class Builder(Protocol):
    """A backend whose artifacts have to be compiled on the machine that runs them."""

    def built_here(self, artifact: Artifact, device: str) -> bool:
        """Whether the artifact can be loaded on this device as it is."""
        ...

    def build_identity(self, device: str) -> Mapping[str, Any]:
        """Return what a build depends on beside the artifact: version of the runtime, device (JSON values)."""
        ...

    def build(
        self,
        artifact: Artifact,
        out: Path,
        *,
        options: BuildOptions,
        device: str,
        model: ExportedModel | None = None,
        calibration: CalibrationSet | None = None,
        timing_cache: Path | None = None,
    ) -> Artifact:
        """Write the compiled artifact's files into ``out``."""
        ...

    def next_step(self, artifact: Artifact) -> str:
        """Say in one sentence how to build an artifact elsewhere."""
        ...


@runtime_checkable
class Phased(Protocol):
    """A session that times the parts of a call apart."""

    def phases(self, last: int | None = None) -> Mapping[str, float]:
        """Return the median milliseconds of each part, of the last calls or of all."""
        ...


@runtime_checkable
class SignedActivations(Protocol):
    """A backend whose activations are signed with zero point 0: a model that is trained for it has to have such."""

    signed_activations: bool


class QuantizedTraining(Protocol):
    """A network with fake quantization in it, to be trained by the training stage."""

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
        """Return the scales that were learnt, for the tensors of the trained weights' exported graph."""
        ...


@runtime_checkable
class Trainer(Protocol):
    """A backend that can put fake quantization into the network of a model (quantization-aware training)."""

    name: str

    def availability(self) -> Availability:
        """Return version and devices, or why not and how to get it."""
        ...

    def training(
        self, model: ExportedModel, scheme: Scheme, *, symmetric: bool, options: QatOptions
    ) -> QuantizedTraining:
        """Return the network of a model, its checkpoint loaded, with fake quantization for a scheme in it."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """A strategy that chooses calibration images."""

    name: str

    def sample(
        self, samples: pd.DataFrame, n: int, *, by: Sequence[str], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return ``n`` row positions in ``samples``; a position may repeat where a group is too small."""
        ...


@dataclass(frozen=True)
class Installed:
    """One declared plug-in: its name, who declares it, and how to load it."""

    name: str
    origin: str
    load: Callable[[], object]


def declared(group: str) -> list[EntryPoint]:
    """Return all entry points of a group, each package's own; tests replace this with entry points in memory."""
    return list(entry_points(group=group))


def installed(group: str) -> dict[str, list[Installed]]:
    """Return the declared plug-ins of a group by name; a name that two packages claim keeps both."""
    found: dict[str, dict[tuple[str, str], Installed]] = {}
    for point in declared(group):
        origin = point.dist.name if point.dist is not None else point.value
        # The same distribution can be seen twice (an editable install beside its sources): that is no clash.
        found.setdefault(point.name, {})[origin, point.value] = Installed(point.name, origin, point.load)
    return {name: list(found[name].values()) for name in sorted(found)}


def backend(name: str) -> Backend:
    """Return the installed backend called ``name``.

    Raises
    ------
    PluginError
        No such backend, two packages that claim the name, or one that cannot be loaded.
    """
    return cast(Backend, _instantiate(BACKENDS, "backend", name, Backend))


def sampler(name: str) -> Sampler:
    """Return the installed sampler called ``name``.

    Raises
    ------
    PluginError
        No such sampler, two packages that claim the name, or one that cannot be loaded.
    """
    return cast(Sampler, _instantiate(SAMPLERS, "sampler", name, Sampler))


def trainer(preferred: str) -> Trainer:
    """Return the backend that trains with fake quantization: the preferred one if it can, else the first that can.

    Raises
    ------
    UnavailableError
        None is installed, or none is available here; the message says how to get one.
    """
    reasons = []
    for name in sorted(installed(BACKENDS), key=lambda name: (name != preferred, name)):
        found = backend(name)
        if isinstance(found, Trainer):
            available = found.availability()
            if available.usable:
                return found
            reasons.append(f"{name}: {available.reason} {available.remedy}".strip())
    why = "; ".join(reasons) or "no installed backend trains with fake quantization"
    raise UnavailableError(f"quantization-aware training is not available here ({why}); pip install 'fqbench[train]'.")


def _instantiate(group: str, kind: str, name: str, protocol: type) -> object:
    plugins = installed(group)
    if name not in plugins:
        hint = did_you_mean(name, plugins)
        raise PluginError(f"unknown {kind} {name!r}: {hint} `fqbench doctor` lists what is installed.")
    claims = plugins[name]
    if len(claims) > 1:
        both = " and ".join(sorted(claim.origin for claim in claims))
        raise PluginError(f"the {kind} name {name!r} is claimed by {both}; uninstall one of them.")
    try:
        factory = claims[0].load()
        plugin = factory() if callable(factory) else factory
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"the {kind} {name!r} of {claims[0].origin} cannot be loaded ({reason}); reinstall or uninstall it."
        ) from error
    if not isinstance(plugin, protocol):
        raise PluginError(
            f"the {kind} {name!r} of {claims[0].origin} lacks parts of the {protocol.__name__} protocol; "
            "run the conformance suite in fqbench.testing on it."
        )
    return plugin
