"""What INT8 with default options costs trained networks: accuracy overall and of the worst group of 100 images or more.

Usage: python benchmarks/defaults.py [--workspace DIR] [--models lcnet_100,resnet10t] [--docs] [...]

Each network is trained on synthfaces at 64 pixels where the workspace does not have it, so a killed run goes on where
it stopped. Any other flag of `fqbench quantize`, as --images 3200, --test-images 2700, --epochs 4 or --placement
measured, changes the experiment. The goal is a loss of at most one point, overall and in every such group; missed goals
are printed with what the validation images had said. Synthfaces are drawn by a program: the table says how quantization
behaves here and nothing about people.
"""

from __future__ import annotations

from typing import Any

from synthfaces_networks import DOCS, Loss, losses, parser, put, runs, setting, training

import fqbench
from fqbench.contracts.artifacts import Artifact
from fqbench.errors import SchemeNotSupported
from fqbench.run import Run
from fqbench.stages.read import read
from fqbench.workspace.kinds import ARTIFACTS

GOAL = 1.0  # points
LEARNT = 0.7  # accuracy from which on a network of two classes has learnt something that can be lost
SETTINGS = {"bias_correction": "bias correction", "rescaling": "rescaled", "reduce_range": "7-bit weights"}
HEADER = (
    "| network | images, epochs | FP32 | INT8 | loss, points | loss of the worst group, points | chosen | goal |\n"
    "|---|---|---:|---:|---:|---|---|---|"
)


def main() -> None:
    """Print the table, row by row, and write it into the documentation if asked."""
    options, rest = parser(__doc__).parse_known_args()
    rows, missed, notice = [], [], ""
    print(HEADER, flush=True)
    for name, run in runs(options, rest):
        notice = f"{read(run).notice} {setting(run)}."
        row, reason = _row(name, run)
        rows.append(row)
        missed += [reason] if reason else []
        print(row, flush=True)
    text = "\n".join([notice, "", HEADER, *rows, "", *missed])
    print("\n".join(["", *missed]))
    if options.docs:
        put(DOCS / "recipes.md", "defaults", text)


def _row(name: str, run: Run) -> tuple[str, str]:
    """Return the row of a network, and why its goal was missed; empty where it was reached."""
    made, epochs = [fqbench.reference(run)], training(run)
    try:
        made.append(fqbench.quantize(run))
    except SchemeNotSupported as error:
        accuracy = losses(run, made)[0].accuracy
        return f"| {name} | {epochs} | {accuracy:.1%} | - | - | - | FP32 | no INT8 is kept |", f"- {name}: {error}"
    before, after = losses(run, made)
    choice = run.workspace.get(made[1].id, ARTIFACTS).facts.choice
    chosen = _chosen(choice)
    met = round(max(after.overall, after.worst), 6) <= GOAL  # 3 of 300 are one point
    verdict = "reached" if met else "MISSED"
    if before.accuracy < LEARNT:
        verdict = "FP32 has learnt too little to judge"
    cells = [name, epochs, f"{before.accuracy:.1%}", f"{after.accuracy:.1%}", f"{after.overall:+.2f}"]
    row = "| " + " | ".join([*cells, after.of_the_worst, chosen, verdict]) + " |"
    return row, "" if met else _reason(name, made[1], after, choice)


def _chosen(choice: dict[str, Any]) -> str:
    """Say which settings were kept; of a measured placement its time, too."""
    chosen = choice["range_rule"] + "".join(
        f", {told}" for name, told in SETTINGS.items() if choice[name] in {"on", True}
    )
    if "placement" not in choice:
        return str(chosen)
    kept = next(one for one in choice["placement"]["tried"] if one["name"] == choice["placement"]["kept"])
    ends = ", ".join("?" if kept["speed"][end] is None else f"{kept['speed'][end]:.2f}" for end in ("low", "high"))
    return f"{chosen}, {kept['name']}: {kept['speed']['ratio']:.2f} [{ends}] of FP32's time"


def _reason(name: str, artifact: Artifact, after: Loss, choice: dict[str, Any]) -> str:
    """Say what the validation images had shown of the artifact that was kept."""
    tried = sorted(choice["tried"], key=lambda one: one["kl_divergence"] + one["worst_kl_divergence"])
    if not tried:
        return f"- {name}: {after.of_the_worst}; nothing was tried on validation images."
    best = tried[0]
    return (
        f"- {name}, {artifact.label}: on validation images {best['name']!r}, the closest of {len(tried)}, left "
        f"{best['agreement']:.1%} of the answers as they were, and {best['worst_agreement']:.1%} in the worst group; "
        f"on test images {after.of_the_worst}."
    )


if __name__ == "__main__":
    main()
