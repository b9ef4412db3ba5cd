"""A diagnosis as a document: the layers, the one first that changes some group most, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fqbench.report.document import Document, Heading, Note, Records, Section, Sheet, notes
from fqbench.report.layer_map import LayerMap
from fqbench.search.diagnosed import ALONE, LAST
from fqbench.storage import finite_or_none

if TYPE_CHECKING:
    from fqbench.search.diagnosed import DiagnosedLayer, Diagnosis, Joint
    from fqbench.search.effects import GroupEffect

COLUMNS = (
    "layer", "operator", ">bits", "worst group", ">KL there [95 %]", ">Δ cross-entropy there [95 %]", ">flips there",
    ">KL, all", ">SQNR weights", ">SQNR input", ">MACs", ">bytes", ">time",
)  # fmt: skip
RECORDS = (
    "layer", "operator", "side", "way", "group", "n", "kl_divergence", "kl_low", "kl_high", "cross_entropy", "ce_low",
    "ce_high", "flips", "macs", "bytes", "float_bytes", "milliseconds",
)  # fmt: skip
SHOWN = 20
WAYS = {LAST: "added last, to all other layers", ALONE: "alone, every other layer in float"}
MILLI = 1000


def diagnosis_document(diagnosis: Diagnosis) -> Document:
    """Return the table of the layers, and how far their effects add up."""
    records = Records(RECORDS, [*_records(diagnosis)])
    return Document(tuple(_sections(diagnosis)), _value(diagnosis), records)


def diagnosis_heatmap(diagnosis: Diagnosis) -> LayerMap:
    """Return the mean KL divergence by layer, in the order of the graph, and group."""
    first = diagnosis.layers[0]
    groups = [one.group for one in first.decisive]
    values = [[MILLI * one.kl_divergence.value for one in layer.decisive] for layer in diagnosis.layers]
    return LayerMap(
        f"Which layer changes the answers for which group: {diagnosis.label}",
        f"KL divergence from FP32, 0.001 nats; {_measured(first)}; {sum(diagnosis.images.values())} validation images.",
        [layer.name for layer in diagnosis.layers],
        groups,
        values,
    )


def _measured(layer: DiagnosedLayer) -> str:
    side, way = _decisive(layer)
    return f"{side if side != 'both' else 'weights and activations'} quantized {WAYS[way]}"


def _decisive(layer: DiagnosedLayer) -> tuple[str, str]:
    found = layer.decisive
    return next((one.side, one.way) for one in layer.effects if one.groups == found)


def _sections(diagnosis: Diagnosis) -> Iterator[Section]:
    counts = ", ".join(f"{group} {count}" for group, count in diagnosis.images.items())
    yield Heading(f"{diagnosis.artifact_id or diagnosis.label}: which layer changes the answers for which group")
    yield from notes(f"  validation images: {counts}; {diagnosis.passes} passes")
    ranked = diagnosis.ranked
    macs = sum(layer.macs for layer in ranked) or 1
    size = sum(layer.bytes for layer in ranked) or 1
    rows = tuple(_row(layer, macs, size, diagnosis.profiled_ms) for layer in ranked[:SHOWN])
    how = (
        f"KL: divergence from FP32's probabilities, 0.001 nats; Δ cross-entropy likewise, above 0 is a loss; both "
        f"{_measured(ranked[0])}. SQNR: decibels; of the input, in the calibration group that has least. MACs, bytes: "
        f"share of all. Intervals are per cell, without correction for the number of layers. {_times(diagnosis)}"
    )
    left = f"{len(ranked) - SHOWN} further layers change less; --json has all." if len(ranked) > SHOWN else ""
    yield Sheet("layers, worst first", COLUMNS, rows, notes(how, left))
    yield _joint(diagnosis)


def _times(diagnosis: Diagnosis) -> str:
    """Say what the times are, and how much of the whole they are."""
    if not diagnosis.profiled:
        return "time: not measured, since this runtime does not say what a layer takes."
    known = sum(layer.milliseconds for layer in diagnosis.layers if not math.isnan(layer.milliseconds))
    return (
        f"time: share of {diagnosis.profiled_ms:.3g} ms, the sum of all kernels of one image in the runtime's profile "
        f"({diagnosis.profiled}); {known / diagnosis.profiled_ms:.0%} of it is in these layers. What is fused into a "
        "layer counts there, and profiling itself takes time: compare layers, not artifacts."
    )


def _row(layer: DiagnosedLayer, macs: int, size: int, profiled: float) -> tuple[str, ...]:
    worst, everybody = layer.worst, layer.decisive[-1]
    sqnr = min(layer.activation_sqnr.values(), default=math.nan)
    return (
        layer.name,
        layer.op,
        f"{layer.bits}/{layer.act_bits}" if layer.float_bytes else f"-/{layer.act_bits}",
        worst.group,
        _interval(worst, "kl_divergence"),
        _interval(worst, "cross_entropy"),
        f"{worst.flips:+d} of {worst.n}" if _decisive(layer)[1] == LAST else f"{worst.flips} of {worst.n}",
        f"{MILLI * everybody.kl_divergence.value:.3g}",
        _decibels(layer.weight_sqnr),
        _decibels(sqnr),
        f"{layer.macs / macs:.1%}",
        f"{layer.bytes / size:.1%}",
        "-" if math.isnan(layer.milliseconds) else f"{layer.milliseconds / profiled:.1%}",
    )


def _interval(effect: GroupEffect, name: str) -> str:
    one = getattr(effect, name)
    return f"{MILLI * one.value:.3g} [{MILLI * one.low:.3g}, {MILLI * one.high:.3g}]"


def _decibels(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _joint(diagnosis: Diagnosis) -> Sheet:
    """Compare the layers' sums with all layers together, and with the artifact as it is executed."""
    columns = ["group"]
    for joint in diagnosis.joint:
        side = "" if joint.side == "both" else f", {joint.side}"
        columns += [f">all layers{side}"]
        columns += [f">sum alone{side}"] * bool(joint.sum_alone) + [f">sum added last{side}"] * bool(joint.sum_last)
    executed = {one.group: one for one in diagnosis.executed}
    columns += [">as executed"] * bool(executed)
    rows = []
    for number, one in enumerate(diagnosis.joint[0].groups):
        cells = [one.group]
        for joint in diagnosis.joint:
            cells += _cells(joint, number)
        if executed:
            cells.append(f"{MILLI * executed[one.group].kl_divergence.value:.3g}")
        rows.append(tuple(cells))
    return Sheet(
        "do the layers add up? KL, 0.001 nats", tuple(columns), tuple(rows), (Note(_verdict(diagnosis)),), total=True
    )


def _cells(joint: Joint, number: int) -> list[str]:
    one = joint.groups[number]
    figures = [one.kl_divergence.value]
    figures += [total[one.group] for total in (joint.sum_alone, joint.sum_last) if total]
    return [f"{MILLI * figure:.3g}" for figure in figures]


def _verdict(diagnosis: Diagnosis) -> str:
    joint = diagnosis.joint[0]
    together = joint.groups[-1].kl_divergence.value
    total = (joint.sum_alone or joint.sum_last).get("all", math.nan)
    if not together > 0 or math.isnan(total):
        return "The answers do not change, so there is nothing to add up."
    ratio = total / together
    how = "alone" if joint.sum_alone else "added last"
    said = f"Over all images, the layers {how} sum to {ratio:.2f} times the effect of all together: "
    if 0.67 <= ratio <= 1.5:
        return said + "they nearly add up, so mending a layer wins back about what its row says."
    if ratio < 1:
        return said + "together they do more than each for itself; mending one wins back more than its own row alone."
    return said + "they partly do the same harm; mending one wins back less than its row alone says."


def _value(diagnosis: Diagnosis) -> dict[str, Any]:
    value: dict[str, Any] = finite_or_none(diagnosis)
    value["layers"] = [finite_or_none(layer) for layer in diagnosis.ranked]
    return value


def _records(diagnosis: Diagnosis) -> Iterator[tuple[object, ...]]:
    for layer in diagnosis.ranked:
        for effect in layer.effects:
            for one in effect.groups:
                kl, ce = one.kl_divergence, one.cross_entropy
                yield (
                    *(layer.name, layer.op, effect.side, effect.way, one.group, one.n, kl.value, kl.low, kl.high),
                    *(ce.value, ce.low, ce.high, one.flips, layer.macs, layer.bytes, layer.float_bytes),
                    None if math.isnan(layer.milliseconds) else layer.milliseconds,
                )
