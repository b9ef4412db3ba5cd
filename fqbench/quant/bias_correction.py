"""Bias correction on trial: an artifact with and one without it, and the one that answers more like FP32 is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fqbench.quant.divergence import AnswerDivergence, answer_divergence
from fqbench.reference_executor import reference_logits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import Artifact

Corrected = Literal["on", "off"]
Batches = Callable[[], Iterator["NDArray[np.float32]"]]
CHOICES: tuple[Corrected, Corrected] = ("off", "on")


def choose_correction(
    model: Path,
    images: Batches,
    make: Callable[[Corrected, Path], Artifact],
    answer: Callable[[Artifact, Iterator[NDArray[np.float32]]], NDArray[np.float32] | None],
    out: Path,
    *,
    threads: int,
) -> tuple[Artifact, dict[str, Any]]:
    """Quantize with and without bias correction, and keep what has the lower divergence from FP32.

    Parameters
    ----------
    model : Path
        The FP32 graph to be close to.
    images : callable
        Yields the validation images in batches, each time from the first one.
    make : callable
        Makes the artifact with the correction "on" or "off" in the folder that it is given.
    answer : callable
        Answers with an artifact; None where it cannot be executed here.
    out : Path
        Where the artifact that is kept has to lie.
    threads : int
        Of the reference.

    Returns
    -------
    Artifact
        As ``make`` returned it, now in ``out``.
    dict
        ``used`` ("on" or "off"), and why: the two figures, or the reason why nothing was measured.
    """
    expected = None
    tried: dict[Corrected, tuple[Artifact, AnswerDivergence | None]] = {}
    for choice in CHOICES:
        folder = out / f".bias-correction-{choice}"
        folder.mkdir()
        made = make(choice, folder)
        found = answer(made, images())
        if found is None:
            tried[choice] = made, None
            break
        expected = reference_logits(model, images(), threads) if expected is None else expected
        tried[choice] = made, answer_divergence(expected, found)
    measured = {choice: one for choice, (_made, one) in tried.items() if one is not None}
    used = min(measured, key=lambda choice: measured[choice].kl_divergence) if len(measured) == len(CHOICES) else "off"
    kept = tried[used][0]
    for name in kept.files:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (kept.root / name).rename(target)
    for other, _measured in tried.values():
        shutil.rmtree(other.root)
    facts: dict[str, Any] = {"asked": "auto", "used": used}
    if not measured:
        facts["not_measured"] = "the artifact cannot be executed on this machine"
    return replace(kept, root=out), {**facts, **{str(name): one.to_dict() for name, one in measured.items()}}
