"""What runs on this machine, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from fqbench import plugins
from fqbench.errors import FqbenchError
from fqbench.machine import Machine, this_machine
from fqbench.workspace import Workspace

# Distribution, what it is for, and the extra that brings it ("" where the base install does).
LIBRARIES = (
    ("onnxruntime", "FP32 reference, and the ort backend", ""),
    ("torch", "training and export", "train"),
    ("torchvision", "models", "train"),
    ("timm", "models", "train"),
    ("accelerate", "training", "train"),
    ("torchao", "8 bits of the torch_compile backend", "inductor"),
    ("tensorrt", "engines of the trt backend, on a GPU", "trt"),
    ("pycuda", "engines of the trt backend, on a GPU", "trt"),
)


@dataclass(frozen=True)
class PluginHealth:
    """State of one declared plug-in: what it can do here, or why it cannot be used and the next step."""

    kind: str
    name: str
    origin: str
    state: str
    usable: bool
    remedy: str


@dataclass(frozen=True)
class LibraryHealth:
    """State of one optional library."""

    name: str
    version: str | None
    purpose: str
    remedy: str


@dataclass(frozen=True)
class Health:
    """The whole picture."""

    machine: Machine
    workspace: str
    plugins: tuple[PluginHealth, ...]
    libraries: tuple[LibraryHealth, ...]

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            "machine": self.machine.to_dict(),
            "workspace": self.workspace,
            "plugins": [asdict(plugin) for plugin in self.plugins],
            "libraries": [asdict(library) for library in self.libraries],
        }


def examine(workspace: Workspace) -> Health:
    """Look at every declared plug-in and optional library; a broken plug-in is a line of the result, never a crash."""
    return Health(
        machine=this_machine(),
        workspace=str(workspace.root),
        plugins=(*_backends(), *_samplers()),
        libraries=tuple(_library(*row) for row in LIBRARIES),
    )


def _backends() -> list[PluginHealth]:
    found = []
    for name, claims in plugins.installed(plugins.BACKENDS).items():
        origin = " and ".join(sorted(claim.origin for claim in claims))
        try:
            available = plugins.backend(name).availability()
        except FqbenchError as error:
            found.append(PluginHealth("backend", name, origin, "WARNING: broken", False, str(error)))
            continue
        if available.usable:
            state = f"{available.version} on {', '.join(available.devices)}"
        else:
            state = f"not available: {available.reason}"
        found.append(PluginHealth("backend", name, origin, state, available.usable, available.remedy))
    return found


def _samplers() -> list[PluginHealth]:
    found = []
    for name, claims in plugins.installed(plugins.SAMPLERS).items():
        origin = " and ".join(sorted(claim.origin for claim in claims))
        try:
            plugins.sampler(name)
        except FqbenchError as error:
            found.append(PluginHealth("sampler", name, origin, "WARNING: broken", False, str(error)))
            continue
        found.append(PluginHealth("sampler", name, origin, "ready", True, ""))
    return found


def _library(name: str, purpose: str, extra: str) -> LibraryHealth:
    try:
        return LibraryHealth(name, version(name), purpose, "")
    except PackageNotFoundError:
        remedy = f"pip install 'fqbench[{extra}]'" if extra else f"pip install {name}"
        return LibraryHealth(name, None, purpose, remedy)
