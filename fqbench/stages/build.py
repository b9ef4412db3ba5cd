"""Build: an artifact compiled for the GPU at hand; and with what, on this machine, an artifact is to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import InputError, UnavailableError
from fqbench.plugins import Backend, Builder, Emulator, Level, Session
from fqbench.quant.calibration import CalibrationSet
from fqbench.run import Run
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import model_of, open_artifact
from fqbench.stages.sample import TABLE
from fqbench.workspace import Recipe

STAGE_VERSION = 1
TIMINGS = ".timings"


@dataclass(frozen=True)
class Runtime:
    """With what an artifact is run here.

    Attributes
    ----------
    artifact : Artifact
        What is run: built where it had to be, and named as emulated where its own runtime is not here.
    version, device : str
        For the record of the run.
    level : str
        ``emulated``, or empty for the runtime itself.
    load : callable
        Threads to a session.
    """

    artifact: Artifact
    version: str | None
    device: str
    level: str
    load: Callable[[int], Session]


def build(run: Run, artifact: Artifact) -> Artifact:
    """Return an artifact compiled for the configured device, building it where it is not there yet.

    Raises
    ------
    InputError
        The backend's artifacts run as they are.
    UnavailableError
        Its runtime or a device is not available here.
    """
    backend = usable(plugins.backend(artifact.backend))
    if not isinstance(backend, Builder):
        raise InputError(
            f"artifacts of {backend.name} run as they are; there is nothing to build, use `fqbench bench`."
        )
    device, options = device_for(run, backend), run.config.build
    if backend.built_here(artifact, device):
        return artifact
    identity = backend.build_identity(device)
    timings = run.workspace.root / TIMINGS / "-".join([backend.name, *(_plain(value) for value in identity.values())])
    recipe = Recipe(
        kind="artifacts",
        slug=f"{artifact.id.rpartition('-')[0]}-built",
        version=STAGE_VERSION,
        determined_by={
            "artifact": artifact.digest,
            "built_for": dict(identity),
            "options": options.model_dump(mode="json"),
        },
        inputs={"model": artifact.model_id, "artifact": artifact.id},
    )

    def compile_it(out: Path) -> Mapping[str, Any]:
        made = backend.build(
            artifact,
            out,
            options=options,
            device=device,
            model=model_of(run.workspace, artifact),
            calibration=_calibration(run, artifact) if options.implicit not in {"none", "record"} else None,
            timing_cache=timings,
        )
        source = run.workspace.get(artifact.id, "artifacts").details
        return {**source, "files": list(made.files), "support": Level.NATIVE, "backend_details": dict(made.details)}

    where = ", ".join(f"{key} {value}" for key, value in identity.items())
    return open_artifact(run.produce(recipe, compile_it, f"building {artifact.label} for {where}"))


def runtime_of(run: Run, artifact: Artifact) -> Runtime:
    """Return with what an artifact is run here: its own runtime, built first where needed, else by emulation.

    Raises
    ------
    UnavailableError
        Its runtime is not available, and nothing emulates it.
    """
    backend = plugins.backend(artifact.backend)
    available = backend.availability()
    if not available.usable and isinstance(backend, Emulator):
        emulator = backend
        run.reporter.say(f"{artifact.label} is emulated by {backend.emulation()}: {available.reason}")
        emulated = replace(artifact, where=Level.EMULATED.value)
        return Runtime(
            emulated,
            f"emulated by {backend.emulation()}",
            "cpu",
            Level.EMULATED.value,
            lambda threads: emulator.emulate(artifact, threads=threads),
        )
    usable(backend)
    device = device_for(run, backend)
    if isinstance(backend, Builder):
        artifact = build(run, artifact)
    return Runtime(
        artifact,
        backend.availability().version,
        device,
        "",
        lambda threads: backend.load(artifact, threads=threads, device=device),
    )


def next_step(artifact: Artifact) -> str:
    """Say what is left to do before an artifact runs on its own runtime; empty where nothing is."""
    backend = plugins.backend(artifact.backend)
    if not isinstance(backend, Builder) or backend.availability().usable:
        return ""
    return backend.next_step(artifact)


def device_for(run: Run, backend: Backend) -> str:
    """Return the device to run on: the one asked for, and in place of the default the backend's own first one."""
    asked, devices = run.config.bench.device, backend.availability().devices
    return devices[0] if asked == "cpu" and devices and asked not in devices else asked


def usable(backend: Backend) -> Backend:
    """Return the backend if it can load artifacts here.

    Raises
    ------
    UnavailableError
        It cannot; the message says why, and how to get it.
    """
    available = backend.availability()
    if not available.usable:
        raise UnavailableError(
            f"the backend {backend.name} cannot run here: {available.reason} {available.remedy}".strip()
        )
    return backend


def _calibration(run: Run, artifact: Artifact) -> CalibrationSet:
    """The images that the artifact was calibrated on."""
    import pandas as pd

    entry = run.workspace.get(artifact.id, "artifacts")
    if "calibration" not in entry.manifest.inputs:
        raise InputError(f"{artifact.id} was made without calibration images; leave --implicit out.")
    frame = pd.read_parquet(run.workspace.get(entry.manifest.inputs["calibration"], "calibrations").file(TABLE))
    images = prepare(run, model_of(run.workspace, artifact).preprocessing).images
    rows = images.rows_of(np.asarray(frame["sample_id"], dtype=np.str_))
    return CalibrationSet(artifact.sampler, frame, images, rows)


def _plain(value: object) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in str(value))
