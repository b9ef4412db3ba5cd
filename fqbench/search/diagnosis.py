"""Diagnose: which layer changes the answers for which group, one layer at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.plan import Layer, QuantizationPlan
from fqbench.errors import DataError
from fqbench.machine import usable_cores
from fqbench.quant.weights import weights_of
from fqbench.reference_executor import reference_logits
from fqbench.run import Run
from fqbench.search.diagnosed import ALONE, LAST, SIDES, WAYS, DiagnosedLayer, Diagnosis, Joint, LayerEffect
from fqbench.search.effects import ImageEffects, group_effects
from fqbench.search.images import ValidationImages
from fqbench.search.variants import QuantizedPart, SimulatedSession, parts_of, simulated
from fqbench.storage import read_arrays, write_arrays
from fqbench.workspace import Derivation
from fqbench.workspace.kinds import ARTIFACTS, DIAGNOSES, DiagnosisFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

REPORT, EFFECTS = "diagnosis.json", "effects.npz"
IMAGES, BATCH = 256, 32
TIMED = 30  # images that layers are timed on, one by one
FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerTimes:
    """Times of single layers, to be measured.

    Attributes
    ----------
    measure : callable
        Takes images (N, 3, H, W), and returns milliseconds by operator.
    on : str
        The runtime, its version, its threads and the machine.
    """

    measure: Callable[[NDArray[np.float32]], Mapping[str, float]]
    on: str


@dataclass(frozen=True)
class PlannedModel:
    """str is diagnosed.

    Attributes
    ----------
    model : ExportedModel
        In float: what the layers are quantized from.
    graph : ModelProto
        Its cleaned graph, rescaled where the plan is of a rescaled one.
    plan : QuantizationPlan
        Scales and integers.
    scheme : str
        The settled scheme as JSON.
    label : str
        For people.
    determined_by : mapping
        str the plan depends on, as JSON values.
    inputs : mapping
        Ids of the entries that it was made of.
    artifact_id : str
        Empty for a scheme without an artifact.
    executed : ndarray of float32 or None
        The artifact's own logits for the images that it is diagnosed on; None where it was not executed.
    timed : LayerTimes or None
        How to measure the time of its layers; None where they are not timed.
    """

    model: ExportedModel
    graph: ModelProto
    plan: QuantizationPlan
    scheme: str
    label: str
    determined_by: Mapping[str, object]
    inputs: Mapping[str, str]
    artifact_id: str = ""
    executed: NDArray[np.float32] | None = None
    timed: LayerTimes | None = None


def diagnose_plan(
    run: Run,
    planned: PlannedModel,
    images: ValidationImages,
    *,
    sides: Sequence[str] = SIDES,
    ways: Sequence[str] = WAYS,
) -> Diagnosis:
    """Measure the effect of every layer on these images, or return the stored diagnosis.

    Each side and way takes a pass per layer, and each side one for all layers together. A killed diagnosis goes on
    where it stopped.

    Parameters
    ----------
    run : Run
        The experiment.
    planned : PlannedModel
        str is diagnosed.
    images : ValidationImages
        A few hundred.
    sides, ways : sequence of str
        Which of `SIDES` and `WAYS`.

    Raises
    ------
    DataError
        The plan quantizes no layer.
    """
    parts = parts_of(planned.plan)
    if not parts:
        raise DataError(f"{planned.label} has no quantized layer; there is nothing to diagnose.")
    derivation = Derivation(
        kind=DIAGNOSES,
        slug=f"{planned.artifact_id.rpartition('-')[0] or planned.label}-{len(images)}",
        determined_by={
            **planned.determined_by,
            "artifacts": ARTIFACTS.version,
            "images": images.digest,
            "sides": list(sides),
            "ways": list(ways),
            "executed": planned.executed is not None,
            "timed": "" if planned.timed is None else planned.timed.on,
        },
        inputs=dict(planned.inputs),
    )

    def build(out: Path) -> DiagnosisFacts:
        passes = _Passes(run, planned, images, run.workspace.scratch(derivation))
        found = passes.all(parts, sides, ways)
        report = _timed(_report(planned, images, parts, found), planned, images, parts)
        report.save(out / REPORT)
        write_arrays(
            out / EFFECTS, {f"{key}.{name}": a for key, one in found.items() for name, a in one.arrays().items()}
        )
        return DiagnosisFacts(
            artifact=planned.artifact_id,
            label=planned.label,
            layers=len(parts),
            passes=report.passes,
            images=images.counts,
        )

    doing = f"diagnosing {planned.label}: {len(parts)} layers on {len(images)} images"
    return Diagnosis.open(run.produce(derivation, build, doing).file(REPORT))


class _Passes:
    """Passes over the images, each kept in a file of its own as soon as it is done."""

    def __init__(self, run: Run, planned: PlannedModel, images: ValidationImages, kept: Path) -> None:
        self.run, self.planned, self.images, self.kept = run, planned, images, kept
        self.graph = planned.graph
        self.size = planned.model.batch_size(BATCH)
        self.threads = usable_cores()

    def all(self, parts: Sequence[QuantizedPart], sides: Sequence[str], ways: Sequence[str]) -> dict[str, ImageEffects]:
        """Return the effects by side and way, and number of the layer; ``joint`` is all layers together."""
        reference = reference_logits(self.planned.model.path, self.images.batches(self.size), self.threads)
        jobs: list[tuple[str, str, Sequence[QuantizedPart]]] = []
        for side in sides:
            jobs.append((f"{side}.joint", side, parts))
            for number, part in enumerate(parts):
                if side == "weights" and not part.weight:
                    continue
                rest = [*parts[:number], *parts[number + 1 :]]
                jobs += [(f"{side}.{way}.{number}", side, [part] if way == ALONE else rest) for way in ways]
        found = {}
        with self.run.reporter.track(f"diagnosing {self.planned.label}", len(jobs), "passes") as advance:
            for key, side, quantized in jobs:
                logits = self._logits(key, side, quantized)
                found[key] = ImageEffects.of(reference, logits, self.images.labels)
                advance(1)
        for key, without in list(found.items()):
            if f".{LAST}." in key:
                found[key] = found[f"{key.partition('.')[0]}.joint"] - without
        if self.planned.executed is not None:
            found["executed"] = ImageEffects.of(reference, self.planned.executed, self.images.labels)
        return found

    def _logits(self, key: str, side: str, quantized: Sequence[QuantizedPart]) -> NDArray[np.float32]:
        file = self.kept / f"{key}.npz"
        if file.is_file():
            try:
                return read_arrays(file)["logits"]
            except (OSError, ValueError, KeyError):  # damaged by whatever stopped the run: once more
                file.unlink()
        session = SimulatedSession(simulated(self.graph, self.planned.plan, quantized, side), self.threads)
        logits = np.concatenate([session.run(batch) for batch in self.images.batches(self.size)])
        write_arrays(file, {"logits": logits})
        return logits


def _report(
    planned: PlannedModel,
    images: ValidationImages,
    parts: Sequence[QuantizedPart],
    found: Mapping[str, ImageEffects],
) -> Diagnosis:
    rows = {
        key: group_effects(one, images.groups, signed=f".{LAST}." in key) for key, one in found.items()
    }  # the difference of two divergences may be negative
    layers = tuple(
        replace(
            _costs(part, planned.plan),
            effects=tuple(
                LayerEffect(side, way, rows[f"{side}.{way}.{number}"])
                for side in SIDES
                for way in WAYS
                if f"{side}.{way}.{number}" in rows
            ),
        )
        for number, part in enumerate(parts)
    )
    layers = _with_sqnr(planned, layers, parts)
    layers = tuple(layer for layer in layers if layer.effects)
    joint = tuple(
        Joint(side, rows[f"{side}.joint"], *(_sums(layers, side, way) for way in WAYS))
        for side in SIDES
        if f"{side}.joint" in rows
    )
    return Diagnosis(
        artifact_id=planned.artifact_id,
        label=planned.label,
        scheme=planned.scheme,
        split="val",
        images=images.counts,
        layers=layers,
        joint=joint,
        executed=rows.get("executed", ()),
        passes=len(found) - ("executed" in found),
    )


def _timed(
    report: Diagnosis, planned: PlannedModel, images: ValidationImages, parts: Sequence[QuantizedPart]
) -> Diagnosis:
    """Add the time of each layer, where the runtime can say it."""
    if planned.timed is None:
        return report
    times = planned.timed.measure(next(images.batches(min(TIMED, len(images)))))
    nodes = {part.name: [node for node in part.nodes if node in times] for part in parts}
    layers = tuple(
        replace(layer, milliseconds=sum(times[node] for node in nodes[layer.name]) if nodes[layer.name] else math.nan)
        for layer in report.layers
    )
    return replace(report, layers=layers, profiled=planned.timed.on, profiled_ms=sum(times.values()))


def _sums(layers: Sequence[DiagnosedLayer], side: str, way: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for layer in layers:
        for one in layer.effects:
            if (one.side, one.way) == (side, way):
                for row in one.groups:
                    total[row.group] = total.get(row.group, 0.0) + row.kl_divergence.value
    return total


def _costs(part: QuantizedPart, plan: QuantizationPlan) -> DiagnosedLayer:
    layers: dict[str, Layer] = {layer.node: layer for layer in plan.layers}
    own = [layers[node] for node in part.nodes]
    return DiagnosedLayer(
        name=part.name,
        op=part.op,
        roles=own[0].roles,
        bits=own[0].bits,
        act_bits=own[0].act_bits,
        macs=sum(layer.macs for layer in own),
        bytes=sum(-(-layer.parameters * layer.bits // 8) for layer in own),
        float_bytes=sum(layer.parameters * FLOAT_BYTES for layer in own),
        weight_sqnr=math.nan,
        activation_sqnr={},
        effects=(),
    )


def _with_sqnr(
    planned: PlannedModel, layers: Sequence[DiagnosedLayer], parts: Sequence[QuantizedPart]
) -> tuple[DiagnosedLayer, ...]:
    """Add the signal-to-noise ratios: of weights from the plan, of activations from what the calibration recorded."""
    graph = planned.graph
    weights = {weight.name: weight for weight in weights_of(graph)}
    read = {node.name: list(node.input) for node in graph.graph.node}
    tensors = planned.plan.facts.get("calibration", {}).get("tensors", {})
    found = []
    for layer, part in zip(layers, parts, strict=True):
        ratio = math.nan
        if part.weight:
            quantized = planned.plan.weights[part.weight]
            rows = weights[part.weight].rows
            noise = float(np.square(rows - quantized.rows * quantized.scale[:, None], dtype=np.float64).sum())
            ratio = decibels(noise, float(np.square(rows, dtype=np.float64).sum()))
        names = [name for node in part.nodes for name in read[node] if name in tensors]
        noises = [tensors[name]["noise"] for name in names]
        groups = noises[0] if noises else {}
        by_group = {group: decibels(max(noise[group] for noise in noises), 1.0) for group in groups}
        found.append(replace(layer, weight_sqnr=ratio, activation_sqnr=by_group))
    return tuple(found)


def decibels(noise: float, signal: float) -> float:
    """Return the signal-to-quantization-noise ratio in decibels; infinite without noise, NaN without a signal."""
    if signal <= 0:
        return math.nan
    return math.inf if noise <= 0 else 10 * math.log10(signal / noise)
