"""An artifact's calibration as a document: clipping and noise of its ranges per group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError
from fqbench.report.document import Document, Heading, Records, Section, Sheet, notes
from fqbench.report.placement import placement_sheet
from fqbench.workspace.kinds import ArtifactFacts

if TYPE_CHECKING:
    from fqbench.workspace import Entry

TRIED = ("candidate", ">KL, all", ">KL, worst group", "worst group", ">same answers", ">same, worst group")
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
    return Document(tuple(_sections(entry, facts, artifact.choice, artifact.details.get("rescaled"))), value, records)


def largest_differences(tensors: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return tensors by name, those first that are clipped most differently from group to group."""
    return sorted(tensors.items(), key=lambda item: _difference(item[1]), reverse=True)


def _sections(
    entry: Entry, facts: dict[str, Any], choice: dict[str, Any], rescaled: dict[str, Any] | None
) -> Iterator[Section]:
    yield Heading(f"{entry.manifest.kind}/{entry.id}")
    counts = ", ".join(f"{group} {count}" for group, count in facts["groups"].items())
    yield from notes(
        f"  policy {facts['policy']}, rule {facts['rule']}, {facts['bits']}-bit activations",
        f"  calibration images: {counts}",
    )
    yield from _rescaled(rescaled)
    yield from _trials(choice)
    if "placement" in choice:
        placement = choice["placement"]
        yield placement_sheet(f"placement: {placement['kept']}", placement["why"], placement)
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


def _rescaled(facts: dict[str, Any] | None) -> Iterator[Section]:
    """Say what was moved in the FP32 graph, and what that does to its own answers."""
    if facts is None:
        return
    layers = sum(len(move["multiplied"]) for move in facts["moves"])
    yield from notes(
        f"  rescaled: factors moved from {len(facts['moves'])} layers into {layers}; FP32's own logits change by "
        f"{facts['largest_change']:.1g} of the largest at most"
    )


def _trials(choice: dict[str, Any]) -> Iterator[Section]:
    """The candidates tried on validation images, the best first."""
    chosen = f"range rule {choice['range_rule']}, bias correction {choice['bias_correction']}"
    chosen += f", rounding {choice['rounding']}" if choice["rounding"] != "auto" else ""
    chosen += ", rescaled" if choice.get("rescaling") == "on" else ""
    chosen += ", 7-bit weights" if choice.get("reduce_range") else ""
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
    others = [f"{name} was not tried: {why}." for name, why in choice.get("not_tried", {}).items()]
    yield Sheet(f"tried: {chosen}", TRIED, rows, notes(how, *others))
