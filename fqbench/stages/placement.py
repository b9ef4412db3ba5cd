"""Placement by measurement: time the variants of an artifact against FP32 in this process, and keep one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.errors import InputError, SchemeNotSupported, UnavailableError
from fqbench.execution import execution, logits_of
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import SubjectFacts
from fqbench.latency.zero_weights import refuse_zero_weights
from fqbench.machine import this_machine
from fqbench.plugins import Backend, support_of
from fqbench.quant.choice import Choice, Validation
from fqbench.quant.graph import cleaned
from fqbench.quant.placement_choice import FP32, Means, NothingFaster, PlacementChoice, Speed, choose_placement
from fqbench.run import Run
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import PLACEMENTS, ArtifactFacts, PlacementFacts

INPUTS, ROUNDS, SECONDS = 16, 60, 1.0  # images, least rounds and least seconds: short, since there are many variants


def require_measurable(backend: Backend, scheme: Scheme) -> None:
    """Check that a scheme's artifacts have a speed on a backend, on this machine and without a build.

    Raises
    ------
    SchemeNotSupported
        They are simulated, or have to be built before they can be timed.
    UnavailableError
        The runtime is not available here, and an emulation has no speed.
    """
    level, available = support_of(backend, scheme).level, backend.availability()
    if not level.has_speed:
        raise SchemeNotSupported(
            f"{backend.name} executes {scheme.label} {level.value}, which has no speed to choose a placement by; use "
            "--placement rules."
        )
    if backend.abilities.builder is not None:
        raise SchemeNotSupported(
            f"the artifacts of {backend.name} are built for a device before they run, so quantize cannot time them; "
            "use --placement rules, and compare recipes with `fqbench bench`."
        )
    if not available.can_run:
        raise UnavailableError(
            f"--placement measured times {backend.name}, which cannot run here: {available.reason} {available.remedy}"
        )


def measured_on(run: Run, floats: Artifact) -> dict[str, Any]:
    """Return what a measured choice depends on in addition to the artifact's inputs; the times are not among it."""
    asked = run.config.bench
    return {
        "batch": asked.batch[0],
        "threads": asked.threads[0],
        "device": asked.device,
        "options": dict(run.config.backends.get(floats.backend, {})),
        "machine": this_machine().to_dict(),
        "reference": floats.digest,
    }


def place(
    run: Run,
    model: ExportedModel,
    made: Choice,
    *,
    floats: Artifact,
    validation: Validation | None,
    make: Callable[[Scheme, Path], Artifact],
) -> PlacementChoice:
    """Choose the placement of an artifact; its folder gets the files of the variant that is kept.

    Parameters
    ----------
    run : Run
        The experiment: device of ``bench``, and the first of its batch sizes and numbers of threads.
    model : ExportedModel
        The FP32 model.
    made : Choice
        The artifact by the runtime's fusion rules, everything else settled.
    floats : Artifact
        FP32 on the same runtime.
    validation : Validation or None
        None where there are no validation images.
    make : callable
        Makes the artifact of a settled scheme in a folder.

    Raises
    ------
    InputError
        There are no validation images.
    DataError
        A weight is all zeros, so latencies would be meaningless.
    NothingFaster
        No variant is faster than FP32.
    """
    if validation is None:
        raise InputError(
            "--placement measured compares answers on validation images, and these data have none; use --placement "
            "rules, or data with a split 'val'."
        )
    refuse_zero_weights(model.path)
    means = Means(
        make,
        lambda artifact, batches: logits_of(
            artifact, batches, device=run.config.bench.device, options=run.config.backends
        ),
        lambda candidates: measured(run, candidates, validation),
    )
    return choose_placement(
        made.scheme, cleaned(model.path), made.artifact, floats=floats, validation=validation, means=means
    )


def keep_refused(
    run: Run, artifact: Derivation[ArtifactFacts], backend: Backend, scheme: Scheme, refused: NothingFaster
) -> Entry[PlacementFacts]:
    """Keep what was measured for an artifact that was not made; every measurement is an entry of its own."""

    def derivation(repeat: int) -> Derivation[PlacementFacts]:
        determined = {**artifact.determined_by, "repeat": repeat}
        return Derivation(PLACEMENTS, artifact.slug, determined, artifact.inputs)

    repeat = next(number for number in itertools.count() if run.workspace.find(derivation(number)) is None)
    facts = PlacementFacts(
        backend=backend.name,
        scheme=scheme,
        why=str(refused),
        tried=tuple(one.to_dict() for one in refused.trials),
        measured_on=dict(artifact.determined_by["measured_on"]),
        repeat=repeat,
    )
    return run.produce(derivation(repeat), lambda _out: facts, "keeping what was measured")


def measured(run: Run, candidates: Mapping[str, Artifact], validation: Validation) -> dict[str, Speed]:
    """Time artifacts interleaved, by the protocol of ``bench`` but shorter; `FP32` is the reference.

    Parameters
    ----------
    run : Run
        The experiment.
    candidates : mapping of str to Artifact
        By name.
    validation : Validation
        Its first images are what is timed.
    """
    asked = run.config.bench
    size, images = asked.batch[0], []
    count = max(INPUTS, size)
    for batch in validation.batches():
        images.append(batch)
        if sum(map(len, images)) >= count:
            break
    subjects = [_subject(run, name, artifact) for name, artifact in candidates.items()]
    report = measure(
        subjects,
        np.concatenate(images)[:count],
        batch=size,
        rounds=ROUNDS,
        seconds=SECONDS,
        seed=asked.seed,
        reference=FP32,
        reporter=run.reporter,
    )
    found = {}
    for one in report.subjects:
        assert one.ratio is not None  # noqa: S101  # `require_measurable` has checked the level
        told = tuple(mark.text for mark in (*one.marks, *report.marks))
        found[one.id] = Speed(one.p50_ms.value, one.ratio.value, one.ratio.low, one.ratio.high, told)
    return found


def _subject(run: Run, name: str, artifact: Artifact) -> Subject:
    running = execution(artifact, device=run.config.bench.device, options=run.config.backends, reporter=run.reporter)
    threads = run.config.bench.threads[0]
    facts = SubjectFacts(
        backend=artifact.backend,
        runtime=running.runtime,
        level=running.level,
        threads=threads,
        quantized=not artifact.scheme.is_float,
    )
    return Subject(name, name, running.load(threads), None, facts, artifact.task)
