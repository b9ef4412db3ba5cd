"""Placements that were measured as a document: each with its time and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fqbench.report.document import Document, Heading, Sheet, notes

if TYPE_CHECKING:
    from fqbench.workspace import Entry
    from fqbench.workspace.kinds import PlacementFacts

PLACED = ("in float", ">p50 ms", ">of FP32's", ">KL, all", ">KL, worst group", ">same answers", ">same, worst group")


def placement_document(entry: Entry[PlacementFacts]) -> Document:
    """Return what was measured where no placement was kept."""
    facts = entry.facts
    value = facts.model_dump(mode="json")
    title = f"{entry.manifest.kind}/{entry.id}"
    sheet = placement_sheet("placement: none kept", facts.why.rstrip("."), value)
    return Document((Heading(title), sheet), {"id": entry.id, **value})


def placement_sheet(title: str, why: str, found: Mapping[str, Any]) -> Sheet:
    """Return the placements that were timed, FP32 first, and why one or none was kept.

    Parameters
    ----------
    title : str
        Of the sheet.
    why : str
        The reason, without a full stop.
    found : mapping
        JSON values: ``tried`` and ``measured_on``.
    """
    on, tried = found["measured_on"], found["tried"]
    how = (
        f"{why}. Measured at batch {on['batch']} on {on['threads']} thread(s) of {on['machine']['cpu']}: on "
        "another machine, or on another day, the choice may be another one."
    )
    refused = [f"{one['name']}: {one['refused']}" for one in tried if one["refused"]]
    doubts = {text: one["name"] for one in tried if one["speed"] for text in one["speed"]["doubts"]}
    told = [f"! {name}: {text}" for text, name in doubts.items()]
    rows = tuple(_placed(one) for one in tried if not one["refused"])
    return Sheet(title, PLACED, rows, notes(how, *refused, *told))


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
