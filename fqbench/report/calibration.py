"""How an artifact's calibration is printed: which ranges clip or blur which group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError
from fqbench.tables import make_table
from fqbench.terminal import print_json, stdout
from fqbench.workspace.kinds import ArtifactFacts

if TYPE_CHECKING:
    from fqbench.workspace import Entry

SHOWN = 15


def print_calibration(entry: Entry, *, as_json: bool) -> None:
    """Print policy, rule and groups of an artifact, and the tensors on which the groups differ most.

    Raises
    ------
    InputError
        The entry is no artifact that was calibrated.
    """
    artifact = entry.facts
    facts = artifact.details.get("calibration") if isinstance(artifact, ArtifactFacts) else None
    if not facts or not isinstance(artifact, ArtifactFacts):
        raise InputError(
            f"{entry.manifest.kind}/{entry.id} has no calibration; name an artifact of `fqbench list artifacts` "
            "whose method is ptq_static."
        )
    if as_json:
        print_json({**facts, "bias_correction": artifact.bias_correction})
        return
    out = stdout()
    out.print(f"{entry.manifest.kind}/{entry.id}", style="bold", highlight=False)
    out.print(f"  policy {facts['policy']}, rule {facts['rule']}, {facts['bits']}-bit activations", highlight=False)
    counts = ", ".join(f"{group} {count}" for group, count in facts["groups"].items())
    out.print(f"  calibration images: {counts}", highlight=False, markup=False, soft_wrap=True)
    if correction := _correction(artifact.bias_correction):
        out.print(f"  {correction}", highlight=False, soft_wrap=True)
    rows = sorted(facts["tensors"].items(), key=lambda item: _difference(item[1]), reverse=True)
    table = make_table(
        "tensor", ">range", ">clipped: most", "group", ">least", "group", ">noise: most", "group", ">least", "group"
    )
    for name, tensor in rows[:SHOWN]:
        table.add_row(
            name, f"[{tensor['low']:.4g}, {tensor['high']:.4g}]", *_ends(tensor["clipped"]), *_ends(tensor["noise"])
        )
    out.print(table)
    out.print(
        f"The {min(SHOWN, len(rows))} of {len(rows)} tensors on which the groups differ most. clipped: share of a "
        "group's values outside the range. noise: its squared quantization error as a share of its mean square. "
        "--json has all of them, for every group.",
        style="dim",
        highlight=False,
    )


def _difference(tensor: dict[str, Any]) -> tuple[float, float]:
    """Rank by the difference of the shares clipped, then by the ratio of the noise."""
    clipped, noise = tensor["clipped"].values(), tensor["noise"].values()
    lowest = min(noise)
    return max(clipped) - min(clipped), max(noise) / lowest if lowest > 0 else 0.0


def _ends(shares: dict[str, float]) -> tuple[str, str, str, str]:
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return f"{shares[most]:.3%}", most, f"{shares[least]:.3%}", least


def _correction(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    if "not_measured" in facts:
        return f"bias correction: {facts['used']} ({facts['not_measured']}, so it could not be tried)"
    with_it, without = facts["on"], facts["off"]
    return (
        f"bias correction: {facts['used']}; divergence from FP32 on {with_it['images']} images of the {facts['split']} "
        f"split: {with_it['divergence']:.3g} with it, {without['divergence']:.3g} without"
    )
