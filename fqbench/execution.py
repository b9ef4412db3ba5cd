"""Execute artifacts: on their own runtime, built first if needed, or emulated.

Prediction, timing, bias correction, the check after quantization-aware training and ``run-pack`` all use this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench import plugins, predictions
from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.contracts.scheme import Method
from fqbench.errors import UnavailableError
from fqbench.latency.memory import fresh_process
from fqbench.latency.protocol import Subject
from fqbench.latency.results import SubjectFacts
from fqbench.machine import usable_cores
from fqbench.plugins import Builder, Session
from fqbench.predictions import Predictions
from fqbench.reporter import Reporter, Silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact
    from fqbench.data.images import PreparedImages

Build = Callable[[Builder, "Artifact", str], "Artifact"]


@dataclass(frozen=True)
class Execution:
    """How an artifact is executed on this machine; nothing is loaded yet.

    Attributes
    ----------
    artifact : Artifact
        What is executed: built if necessary, and labelled as emulated if its own runtime is not available.
    level : Level
        ``native``, ``packed``, ``simulated`` or ``emulated``: of the sessions of this machine.
    runtime, device, device_name : str
        Version of what executes it; the device, and the model of a device that is not the machine's CPU.
    options : mapping
        The backend's own options, as set.
    built_for : mapping
        What a built artifact depends on (version, device); empty where nothing is built.
    load : callable
        Threads to a session.
    """

    artifact: Artifact
    level: Level
    runtime: str
    device: str
    load: Callable[[int], Session]
    device_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    built_for: Mapping[str, Any] = field(default_factory=dict)


def execution(
    artifact: Artifact,
    *,
    device: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    build: Build | None = None,
    reporter: Reporter | None = None,
) -> Execution:
    """Decide how an artifact is executed here.

    Parameters
    ----------
    artifact : Artifact
        Published or not.
    device : str, optional
        The device; by default the runtime's first one.
    options : mapping, optional
        Options of backends, by name of the backend.
    build : callable, optional
        Compiles an artifact for a device; without it, what would have to be compiled is emulated or refused.
    reporter : Reporter, optional
        Told where something is emulated.

    Raises
    ------
    UnavailableError
        Its runtime is not available here, and nothing emulates it.
    """
    chosen = (options or {}).get(artifact.backend, {})
    backend = plugins.backend(artifact.backend, chosen)
    available, able = backend.availability(), backend.abilities
    builder, built_for, why = able.builder, {}, available.reason
    runs = available.can_run
    if runs:
        device = device or available.devices[0]
        if builder is not None:
            if not builder.built_here(artifact, device) and build is not None:
                artifact = build(builder, artifact, device)
            built_for = dict(builder.build_identity(device))
            runs = builder.built_here(artifact, device)
            why = "it has to be built first"
    if runs and device is not None:
        place: str = device
        return Execution(
            artifact,
            plugins.support_of(backend, artifact.scheme).level,
            str(available.version),
            place,
            lambda threads: backend.load(artifact, threads=threads, device=place),
            available.device_names.get(place, ""),
            chosen,
            built_for,
        )
    if able.emulator is None:
        raise UnavailableError(f"the backend {backend.name} cannot run here: {why} {available.remedy}".strip())
    return _emulation(artifact, able.emulator, why, reporter or Silent())


def require_runtime(artifact: Artifact) -> None:
    """Check that an artifact's own runtime is available, since an emulation has no latency.

    Raises
    ------
    UnavailableError
        It is not available; the message has the reason and the remedy.
    """
    available = plugins.backend(artifact.backend).availability()
    if not available.can_run:
        raise UnavailableError(
            f"the backend {artifact.backend} cannot run here: {available.reason} {available.remedy}".strip()
        )


def batch_size_for(artifact: Artifact, asked: int) -> int:
    """Return how many images go into one call.

    A dynamic scheme takes its scales from the whole batch: only one image at a time is independent of its neighbours.
    """
    return 1 if artifact.scheme.method is Method.PTQ_DYNAMIC else artifact.batch or asked


def answers(
    running: Execution,
    images: PreparedImages,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    threads: int,
    reporter: Reporter | None = None,
) -> tuple[Predictions, Arithmetic]:
    """Load an artifact and predict images of a prepared store.

    Raises
    ------
    DataError
        The runtime answers NaN or infinity.
    """
    session = running.load(threads)
    what = f"predicting {running.artifact.label}"
    size = batch_size_for(running.artifact, batch_size)
    task = running.artifact.task
    found = predictions.predict(session, images, rows, batch_size=size, what=what, task=task, reporter=reporter)
    return found, session.arithmetic


def logits_of(
    artifact: Artifact,
    batches: Iterator[NDArray[np.float32]],
    *,
    device: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> NDArray[np.float32] | None:
    """Return the logits of an artifact that is not published yet; None if it cannot be executed here."""
    try:
        running = execution(artifact, device=device, options=options)
    except UnavailableError:
        return None
    session = running.load(usable_cores())
    found = []
    for batch in batches:
        size = batch_size_for(artifact, len(batch))
        found += [session.run(batch[start : start + size]) for start in range(0, len(batch), size)]
    return np.concatenate(found)


def subject(
    running: Execution,
    expected: NDArray[np.float32],
    input_shape: tuple[int, int, int],
    *,
    batch: int,
    threads: int,
    cold_starts: int = 1,
) -> Subject:
    """Load an artifact to be timed, and measure its memory and its cold start in separate processes.

    Parameters
    ----------
    running : Execution
        How it is executed.
    expected : ndarray of float32, shape (images, classes)
        What it predicted for the images that are timed.
    input_shape : tuple of int
        Channels, height and width.
    batch, threads : int
        Images per call; threads of the runtime.
    cold_starts : int
        Number of these processes; the memory is that of the first one.
    """
    artifact = running.artifact
    fresh = [
        fresh_process(
            artifact, input_shape, batch=batch, threads=threads, device=running.device, options=running.options
        )
        for _ in range(cold_starts)
    ]
    facts = SubjectFacts(
        backend=artifact.backend,
        runtime=running.runtime,
        level=running.level,
        threads=threads,
        bytes=artifact.size_on_disk,
        peak_memory=fresh[0].memory,
        quantized=not artifact.scheme.is_float,
        cold_starts=tuple(one.cold_start for one in fresh if one.cold_start is not None),
    )
    return Subject(artifact.id, artifact.label, running.load(threads), expected, facts, artifact.task)


def _emulation(artifact: Artifact, emulator: plugins.Emulator, why: str, reporter: Reporter) -> Execution:
    reporter.say(f"{artifact.label} is emulated by {emulator.emulation()}: {why}")
    return Execution(
        replace(artifact, where=Level.EMULATED.value),
        Level.EMULATED,
        f"emulated by {emulator.emulation()}",
        "cpu",
        lambda threads: emulator.emulate(artifact, threads=threads),
    )
