"""Replicate: the comparison with FP32 over several training seeds and calibration draws, with variance components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.data.samples import group_labels
from fqbench.errors import InputError
from fqbench.fairness.hierarchy import Design, Patterns, Spread, hierarchical_change
from fqbench.fairness.literature import compression_identified_exemplars
from fqbench.fairness.metrics import accuracy, gap_values, one_vs_rest
from fqbench.predicted_labels import predicted_labels
from fqbench.predictions import ArtifactPredictions
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import configured_scheme, named_backend, quantize, reference
from fqbench.stages.read import read, read_entry
from fqbench.storage import Stored, finite_or_none
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import REPLICATIONS, ReplicationFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPORT = "replication.json"
REPLICATES = 2000  # each touches every pattern of answers; the interval's end is then known to a few percent
GAPS = ("demographic_parity_difference", "equalized_odds_difference")


@dataclass(frozen=True)
class ReplicatedGroup:
    """One group over all seeds and draws.

    Attributes
    ----------
    group : str
        "all" for all images.
    n : int
        Images; where it is 0, every figure is undefined.
    accuracy : Spread
        Change of accuracy from FP32.
    exemplars : int
        Compression-identified exemplars: images whose most frequent prediction changes.
    """

    group: str
    n: int
    accuracy: Spread
    exemplars: int


@dataclass(frozen=True)
class Replication(Stored):
    """A comparison over several seeds and draws.

    Attributes
    ----------
    label : str
        What is compared with FP32.
    seeds, draws : tuple of int
        Training seeds and seeds of the calibration sampler.
    groups : tuple of ReplicatedGroup
        All images last.
    gaps : dict of str to Spread
        Change of each gap between groups.
    exemplars : tuple of str
        Sample ids of the compression-identified exemplars.
    predictions : tuple of str
        Ids of the predictions that were counted.
    data, split, notice : str
        Which images, and what has to be said of them.
    by : tuple of str
        Sensitive features of the groups.
    """

    label: str
    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    groups: tuple[ReplicatedGroup, ...]
    gaps: dict[str, Spread]
    exemplars: tuple[str, ...]
    predictions: tuple[str, ...]
    data: str
    split: str
    notice: str
    by: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        plain: dict[str, Any] = finite_or_none(self)
        return plain


def replicate(run: Run, seeds: Sequence[int], draws: Sequence[int]) -> Replication:
    """Train, quantize and predict for every missing seed and draw, and compare with FP32.

    Parameters
    ----------
    run : Run
        The experiment.
    seeds : sequence of int
        Training seeds; the configured one if empty.
    draws : sequence of int
        Seeds of the calibration sampler; the configured one if empty.

    Raises
    ------
    InputError
        Several training seeds for a model that is not trained here.
    """
    named_backend(run, configured_scheme(run))
    read(run).require_one_label("replicate")
    seeds, draws = tuple(seeds or (run.config.train.seed,)), tuple(draws or (run.config.quantize.calib_seed,))
    if run.config.model.onnx is not None and len(seeds) > 1:
        raise InputError(
            "--seeds trains the model again, and --onnx brings one that is trained; leave one of them out."
        )
    answered: list[ArtifactPredictions] = []
    references, candidates = {}, {}
    for seed in seeds:
        seeded = run.with_options("train", seed=seed)
        references[seed] = len(answered)
        answered.append(predict_split(seeded, reference(seeded)))
        drawn = [quantize(seeded.with_options("quantize", calib_seed=draw)) for draw in draws]
        candidates[seed] = tuple(range(len(answered), len(answered) + len(drawn)))
        answered += [predict_split(seeded, artifact) for artifact in drawn]
    design = Design(references, candidates)
    by = read(run).features(run.config.eval.by)
    label = answered[-1].artifact.label
    derivation = Derivation(
        kind=REPLICATIONS,
        slug=f"{len(seeds)}-seeds-{len(draws)}-draws-{run.config.eval.split}",
        determined_by={
            "samples": read_entry(run).digest,
            "predictions": [[one.entry.id, one.entry.digest] for one in answered],
            "label": label,
            "seeds": list(seeds),
            "draws": list(draws),
            "by": list(by),
            "options": run.config.eval.model_dump(mode="json"),
        },
        inputs={f"predictions{index}": one.entry.id for index, one in enumerate(answered)},
    )

    def build(out: Path) -> ReplicationFacts:
        _compare(run, answered, design, (seeds, draws)).save(out / REPORT)
        return ReplicationFacts(label=label, seeds=seeds, draws=draws)

    doing = f"comparing {label} with FP32 over {len(seeds)} seed(s) and {len(draws)} draw(s)"
    return Replication.open(run.produce(derivation, build, doing).file(REPORT))


def _compare(
    run: Run, answered: list[ArtifactPredictions], design: Design, levels: tuple[tuple[int, ...], tuple[int, ...]]
) -> Replication:
    asked, samples = run.config.eval, read(run)
    by = samples.features(asked.by)
    name = asked.positive or samples.classes[-1]
    decided = predicted_labels(answered, samples, threshold=asked.threshold, positive=name)
    frame = decided[0].frame
    labels, groups = frame["label"].to_numpy(dtype=np.int64), group_labels(frame, by)
    answers = np.column_stack([one.labels for one in decided])
    patterns = Patterns.count(labels, answers, groups, len(samples.classes), samples.groups(by))
    changed = compression_identified_exemplars(
        answers[:, list(design.references.values())].T,
        answers[:, [column for columns in design.candidates.values() for column in columns]].T,
    )
    positive = samples.classes.index(name)
    parts = [*enumerate(patterns.groups), (None, "all")]
    rows = [
        ReplicatedGroup(
            group=group,
            n=len(groups) if place is None else int((groups == group).sum()),
            accuracy=_spread(run, patterns, design, _accuracy_of(place)),
            exemplars=int(changed.sum() if place is None else changed[groups == group].sum()),
        )
        for place, group in parts
    ]
    return Replication(
        label=answered[-1].artifact.label,
        seeds=levels[0],
        draws=levels[1],
        groups=tuple(rows),
        gaps={gap: _spread(run, patterns, design, _gap_of(gap, positive)) for gap in GAPS},
        exemplars=tuple(frame["sample_id"].to_numpy()[changed].tolist()),
        predictions=tuple(one.entry.id for one in answered),
        data=samples.name,
        split=asked.split,
        notice=samples.notice,
        by=by,
    )


def _spread(
    run: Run, patterns: Patterns, design: Design, statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Spread:
    asked = run.config.eval
    replicates = min(asked.replicates, REPLICATES)
    return hierarchical_change(
        patterns, design, statistic, replicates=replicates, confidence=asked.confidence, seed=asked.seed
    )


def _accuracy_of(place: int | None) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def statistic(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        part = tables.sum(axis=1, keepdims=True) if place is None else tables[:, [place]]
        return np.asarray(accuracy(part)[:, 0])

    return statistic


def _gap_of(gap: str, positive: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def statistic(tables: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gap_values(one_vs_rest(tables, positive), [gap])[gap])

    return statistic
