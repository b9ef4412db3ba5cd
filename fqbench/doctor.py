"""What runs on this machine, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from fqbench import plugins
from fqbench.errors import FqbenchError
from fqbench.machine import Machine, Requirement, requirements, this_machine
from fqbench.workspace import Workspace


@dataclass(frozen=True)
class PluginHealth:
    """State of one declared plug-in: what it can do here, or why it cannot be used and what to do."""

    kind: str
    name: str
    origin: str
    state: str
    usable: bool
    remedy: str


@dataclass(frozen=True)
class LibraryHealth:
    """State of one library that fqbench declares; ``extra`` is what brings it."""

    name: str
    version: str | None
    extra: str
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
            "machine": {**self.machine.to_dict(), "integer_sums": self.machine.integer_sums.value},
            "workspace": self.workspace,
            "plugins": [asdict(plugin) for plugin in self.plugins],
            "libraries": [asdict(library) for library in self.libraries],
        }


def examine(workspace: Workspace) -> Health:
    """Look at every declared plug-in and optional library; a broken plug-in is reported, not raised."""
    return Health(
        machine=this_machine(),
        workspace=str(workspace.root),
        plugins=(*_backends(), *_samplers()),
        libraries=tuple(_library(one) for one in requirements()),
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
        if available.can_run:
            state = f"{available.version} on {', '.join(available.devices)}"
        else:
            state = f"not available: {available.reason}"
        found.append(PluginHealth("backend", name, origin, state, available.can_run, available.remedy))
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


def _library(requirement: Requirement) -> LibraryHealth:
    found, extra = requirement.version, requirement.extra
    command = f"pip install 'fqbench[{extra}]'" if extra else f"pip install {requirement.name}"
    return LibraryHealth(requirement.name, found, extra or "base", "" if found else command)
