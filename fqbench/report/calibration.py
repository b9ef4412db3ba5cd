"""An artifact's calibration as a document: clipping and noise of its ranges per group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError
from fqbench.report.document import Document, Heading, Records, Section, Sheet, notes
from fqbench.workspace.kinds import ArtifactFacts

if TYPE_CHECKING:
    from fqbench.workspace import Entry

TRIED = ("candidate", ">KL, all", ">KL, worst group", "worst group", ">same answers", ">same, worst group")
PLACED = ("in float", ">p50 ms", ">of FP32's", ">KL, all", ">KL, worst group", ">same answers", ">same, worst group")
SHOWN = 15
RECORDS = ("tensor", "low", "high", "group", "clipped", "noise")
COLUMNS = (
    "tensor", ">range", ">clipped: most", "group", ">least", "group", ">noise: most", "group", ">least", "group",
)  # fmt: skip


def calibration_document(entry: Entry) -> Document:
    """Return policy, rule and groups of an artifact, and the tensors with the largest differences between groups.

    Raises
    ------
    InputError
        The entry is not an artifact that was calibrated.
    """
    artifact = entry.facts
    facts = artifact.details.get("calibration") if isinstance(artifact, ArtifactFacts) else None
    if not facts or not isinstance(artifact, ArtifactFacts):
        raise InputError(
            f"{entry.manifest.kind}/{entry.id} has no calibration; name an artifact of `fqbench list artifacts` "
            "whose method is ptq_static."
        )
    value = {**facts, "choice": artifact.choice}
    records = Records(RECORDS, [*_records(facts["tensors"])])
    return Document(tuple(_sections(entry, facts, artifact.choice)), value, records)


def largest_differences(tensors: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return tensors by name, those first that are clipped most differently from group to group."""
    return sorted(tensors.items(), key=lambda item: _difference(item[1]), reverse=True)


def _sections(entry: Entry, facts: dict[str, Any], choice: dict[str, Any]) -> Iterator[Section]:
    yield Heading(f"{entry.manifest.kind}/{entry.id}")
    counts = ", ".join(f"{group} {count}" for group, count in facts["groups"].items())
    yield from notes(
        f"  policy {facts['policy']}, rule {facts['rule']}, {facts['bits']}-bit activations",
        f"  calibration images: {counts}",
    )
    yield from _trials(choice)
    yield from _placement(choice.get("placement"))
    ranked = largest_differences(facts["tensors"])
    rows = tuple(
        (name, f"[{tensor['low']:.4g}, {tensor['high']:.4g}]", *_ends(tensor["clipped"]), *_ends(tensor["noise"]))
        for name, tensor in ranked[:SHOWN]
    )
    how = (
        f"The {min(SHOWN, len(ranked))} of {len(ranked)} tensors with the largest differences between groups. "
        "clipped: share of a group's values outside the range. noise: a group's squared quantization error, relative "
        "to its mean square. --json and --format csv have all tensors and groups."
    )
    yield Sheet("", COLUMNS, rows, notes(how))


def _records(tensors: dict[str, dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for name, tensor in tensors.items():
        for group, clipped in tensor["clipped"].items():
            yield name, tensor["low"], tensor["high"], group, clipped, tensor["noise"][group]


def _difference(tensor: dict[str, Any]) -> tuple[float, float]:
    """Rank by the difference of the shares clipped, then by the ratio of the noise."""
    clipped, noise = tensor["clipped"].values(), tensor["noise"].values()
    lowest = min(noise)
    return max(clipped) - min(clipped), max(noise) / lowest if lowest > 0 else 0.0


def _ends(shares: dict[str, float]) -> tuple[str, str, str, str]:
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return f"{shares[most]:.3%}", most, f"{shares[least]:.3%}", least


def _trials(choice: dict[str, Any]) -> Iterator[Section]:
    """The candidates tried on validation images, the best first."""
    chosen = f"range rule {choice['range_rule']}, bias correction {choice['bias_correction']}"
    chosen += f", rounding {choice['rounding']}" if choice["rounding"] != "auto" else ""
    tried = sorted(choice["tried"], key=lambda one: one["kl_divergence"] + one["worst_kl_divergence"])
    if not tried:
        yield from notes(f"  {chosen}")
        return
    rows = tuple(
        (
            one["name"],
            f"{one['kl_divergence']:.3g}",
            f"{one['worst_kl_divergence']:.3g}",
            one["worst_group"] or "-",
            f"{one['agreement']:.1%}",
            f"{one['worst_agreement']:.1%}",
        )
        for one in tried
    )
    how = (
        "KL divergence of the answers from FP32's on validation images, and share of identical answers; the candidate "
        "with the smallest sum of both divergences was kept."
    )
    yield Sheet(f"tried: {chosen}", TRIED, rows, notes(how))


def _placement(choice: dict[str, Any] | None) -> Iterator[Section]:
    """The placements that were timed, FP32 first, and why one was kept."""
    if choice is None:
        return
    on = choice["measured_on"]
    how = (
        f"{choice['why']}. Measured at batch {on['batch']} on {on['threads']} thread(s) of {on['machine']['cpu']}: on "
        "another machine, or on another day, the choice may be another one."
    )
    refused = [f"{one['name']}: {one['refused']}" for one in choice["tried"] if one["refused"]]
    doubts = {text: one["name"] for one in choice["tried"] if one["speed"] for text in one["speed"]["doubts"]}
    told = [f"! {name}: {text}" for text, name in doubts.items()]
    rows = tuple(_placed(one) for one in choice["tried"] if not one["refused"])
    yield Sheet(f"placement: {choice['kept']}", PLACED, rows, notes(how, *refused, *told))


def _placed(one: dict[str, Any]) -> tuple[str, ...]:
    speed, found = one["speed"], one["answers"]
    figures = (f"{speed['p50_ms']:.3g}", f"{speed['ratio']:.2f} {_between(speed)}")
    if found is None:
        return (one["name"], f"{speed['p50_ms']:.3g}", "1", "-", "-", "-", "-")
    return (
        one["name"],
        *figures,
        f"{found['kl_divergence']:.3g}",
        f"{found['worst_kl_divergence']:.3g}",
        f"{found['agreement']:.1%}",
        f"{found['worst_agreement']:.1%}",
    )


def _between(speed: dict[str, Any]) -> str:
    return "[" + ", ".join("-" if speed[end] is None else f"{speed[end]:.2f}" for end in ("low", "high")) + "]"
