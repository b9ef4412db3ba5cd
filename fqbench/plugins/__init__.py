"""Plug-ins: the protocols of backends and samplers, which are found by entry points."""

from __future__ import annotations

from fqbench.contracts.runtime import Arithmetic, Availability, Level, Support
from fqbench.contracts.sampler import Sampler
from fqbench.plugins.finding import (
    BACKENDS,
    SAMPLERS,
    Installed,
    backend,
    check_options,
    declared,
    distribution,
    installed,
    sampler,
    trainer,
)
from fqbench.plugins.protocols import (
    Abilities,
    Backend,
    BackendBase,
    BackendOptions,
    Builder,
    BuildSource,
    Emulator,
    QuantizedTraining,
    Session,
    SessionBase,
    Trainer,
    packed_support,
    require_plan,
    require_support,
    support_of,
)

__all__ = [
    "BACKENDS",
    "SAMPLERS",
    "Abilities",
    "Arithmetic",
    "Availability",
    "Backend",
    "BackendBase",
    "BackendOptions",
    "BuildSource",
    "Builder",
    "Emulator",
    "Installed",
    "Level",
    "QuantizedTraining",
    "Sampler",
    "Session",
    "SessionBase",
    "Support",
    "Trainer",
    "backend",
    "check_options",
    "declared",
    "distribution",
    "installed",
    "packed_support",
    "require_plan",
    "require_support",
    "sampler",
    "support_of",
    "trainer",
]
