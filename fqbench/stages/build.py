"""Build: compile an artifact for this device, for runtimes that need it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fqbench import plugins
from fqbench.catalogue import model_of, open_artifact
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError
from fqbench.execution import Execution, execution, require_runtime
from fqbench.plugins import Builder, BuildSource, Level
from fqbench.quant.calibration import CalibrationSet
from fqbench.run import Run
from fqbench.stages.prepare import prepare
from fqbench.stages.sample import TABLE
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import ARTIFACTS, CALIBRATIONS, ENGINES, EngineFacts

TIMINGS = ".timings"


def build(run: Run, artifact: Artifact) -> Artifact:
    """Return an artifact compiled for the configured device, building it if necessary.

    Raises
    ------
    InputError
        The backend's artifacts run as they are.
    UnavailableError
        Its runtime or a device is not available here.
    """
    require_runtime(artifact)
    if plugins.backend(artifact.backend).abilities.builder is None:
        raise InputError(
            f"artifacts of {artifact.backend} run as they are; there is nothing to build, use `fqbench bench`."
        )
    return execution_of(run, artifact).artifact


def execution_of(run: Run, artifact: Artifact) -> Execution:
    """Return how an artifact is executed here with the configured options, built first if necessary.

    Raises
    ------
    UnavailableError
        Its runtime is not available here, and nothing emulates it.
    """
    return execution(
        artifact,
        device=run.config.bench.device,
        options=run.config.backends,
        build=lambda builder, portable, device: _built(run, builder, portable, device),
        reporter=run.reporter,
    )


def next_step(artifact: Artifact) -> str:
    """Return what is left to do before an artifact runs on its own runtime; empty if nothing is."""
    backend = plugins.backend(artifact.backend)
    builder = backend.abilities.builder
    return "" if builder is None or backend.availability().can_run else builder.next_step(artifact)


def _built(run: Run, builder: Builder, artifact: Artifact, device: str) -> Artifact:
    identity = builder.build_identity(device)
    name = "-".join([artifact.backend, *(_plain(value) for value in identity.values())])
    derivation = Derivation(
        kind=ENGINES,
        slug=f"{artifact.id.rpartition('-')[0]}-built",
        determined_by={
            "artifact": artifact.digest,
            "built_for": dict(identity),
            "plugin": plugins.distribution(plugins.BACKENDS, artifact.backend),
            "options": dict(run.config.backends.get(artifact.backend, {})),
        },
        inputs={"model": artifact.model_id, "artifact": artifact.id},
    )

    def compile_it(out: Path) -> EngineFacts:
        source = BuildSource(model_of(run.workspace, artifact), lambda: calibration_of(run, artifact))
        timings = run.workspace.root / TIMINGS / name
        made = builder.build(artifact, out, device=device, source=source, timing_cache=timings)
        portable = dict(run.workspace.get(artifact.id, ARTIFACTS).facts)
        changed = {"files": made.files, "support": Level.NATIVE, "details": dict(made.details)}
        return EngineFacts(**portable | changed, built_for=dict(identity))

    where = ", ".join(f"{key} {value}" for key, value in identity.items())
    return open_artifact(run.workspace, run.produce(derivation, compile_it, f"building {artifact.label} for {where}"))


def calibration_of(run: Run, artifact: Artifact) -> CalibrationSet:
    """Return the images that an artifact was calibrated on.

    Raises
    ------
    InputError
        It was made without, or of another data set than the configured one.
    """
    import pandas as pd

    entry = run.workspace.get(artifact.id, ARTIFACTS)
    if "calibration" not in entry.manifest.inputs:
        raise InputError(f"{artifact.id} was made without calibration images, which this build asks for.")
    frame = pd.read_parquet(run.workspace.get(entry.manifest.inputs["calibration"], CALIBRATIONS).file(TABLE))
    images = prepare(run, model_of(run.workspace, artifact).preprocessing).images
    rows = images.rows_of(np.asarray(frame["sample_id"], dtype=np.str_))
    if (rows < 0).any():
        raise InputError(f"{artifact.id} was calibrated on images of another data set; give its own with --data.")
    return CalibrationSet(artifact.sampler, frame, images, rows)


def _plain(value: object) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in str(value))
