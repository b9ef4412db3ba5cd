"""An artifact as the quantize stage makes it, without a workspace: planned by the core, written by a backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.quant.plan import make_plan

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import Artifact, ExportedModel
    from fqbench.contracts.scheme import Scheme
    from fqbench.plugins import Backend
    from fqbench.quant.calibration import CalibrationSet


def write_artifact(
    backend: Backend, model: ExportedModel, scheme: Scheme, out: Path, calibration: CalibrationSet | None = None
) -> Artifact:
    """Plan a model for a backend and let it write its files into ``out``."""
    plan = None
    if not scheme.is_float:
        plan = make_plan(model, scheme, backend.numerics(scheme), calibration)
    return backend.quantize(model, scheme, plan, out)
