"""Bias correction on trial: an artifact with and one without, and the one that answers more like FP32 is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fqbench.errors import InputError
from fqbench.machine import usable_cores
from fqbench.plugins import Builder
from fqbench.quant.divergence import AnswerDivergence, answer_divergence, answers_of
from fqbench.reference import reference_logits
from fqbench.run import Run
from fqbench.stages.prepare import Prepared, prepare
from fqbench.stages.read import read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact, ExportedModel
    from fqbench.plugins import Backend

Corrected = Literal["on", "off"]
SPLIT = "val"
IMAGES = 512
BATCH = 32


def quantize_better(
    run: Run, backend: Backend, model: ExportedModel, make: Callable[[Corrected, Path], Artifact], out: Path
) -> tuple[Artifact, dict[str, Any]]:
    """Quantize with and without bias correction, and keep what has the lower divergence from FP32.

    Parameters
    ----------
    run : Run
        The experiment: its validation split, and the device to answer on.
    backend : Backend
        Loads what was made.
    model : ExportedModel
        The FP32 model to be close to.
    make : callable
        Makes the artifact with the correction "on" or "off" in the folder that it is given.
    out : Path
        Where the artifact that is kept has to lie.

    Returns
    -------
    Artifact
        As ``make`` returned it, now in ``out``.
    dict
        ``used`` ("on" or "off"), and why: the two figures, or the reason why nothing was measured.
    """
    images = _images(run, model)
    device = run.config.bench.device
    availability = backend.availability()
    if images is None or device not in availability.devices or isinstance(backend, Builder):
        why = f"no {SPLIT} split" if images is None else availability.reason or f"no device {device} here"
        why = "its artifacts have to be built before they answer" if isinstance(backend, Builder) else why
        return make("off", out), {"asked": "auto", "used": "off", "not_measured": why}
    expected = reference_logits(model.path, images(), usable_cores())
    tried: dict[Corrected, tuple[Artifact, AnswerDivergence]] = {}
    choices: tuple[Corrected, Corrected] = ("off", "on")
    for choice in choices:
        folder = out / f".bias-correction-{choice}"
        folder.mkdir()
        made = make(choice, folder)
        session = backend.load(made, threads=usable_cores(), device=device)
        tried[choice] = made, answer_divergence(expected, answers_of(session, images()))
    used: Corrected = "on" if tried["on"][1].kl_divergence < tried["off"][1].kl_divergence else "off"
    made = tried[used][0]
    for name in made.files:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (made.root / name).rename(target)
    for other, _divergence in tried.values():
        shutil.rmtree(other.root)
    facts: dict[str, Any] = {"asked": "auto", "used": used, "split": SPLIT}
    measured: dict[str, Any] = {str(choice): close.to_dict() for choice, (_made, close) in tried.items()}
    return replace(made, root=out), {**facts, **measured}


def _images(run: Run, model: ExportedModel) -> Any:
    """Return a function that yields the validation images in batches, or None where there are none."""
    try:
        frame = read(run).split(SPLIT)
    except InputError:
        return None
    store: Prepared = prepare(run, model.preprocessing)
    _frame, rows = store.readable(frame)
    # Evenly over the split, which may be sorted by group or class.
    chosen = rows[:: max(1, len(rows) // IMAGES)][:IMAGES]

    def batches() -> Iterator[NDArray[np.float32]]:
        return store.images.batches(chosen, BATCH)

    return batches if len(chosen) else None
