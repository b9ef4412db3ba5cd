"""Policy x rule x bits: accuracy, worst-group accuracy and demographic parity difference, from one calibration record.

Usage: python benchmarks/calibration_policies.py [--workspace DIR] [--policies a,b] [--rules a,b] [--bits 8,4] [...]

The experiment is the demo's (synthfaces, resnet10t), trained first where the workspace does not have it; any other flag
of `fqbench quantize` and `fqbench eval`, as --calib random or --images 2000, changes it. All rows share one record: a
randomly drawn calibration set, so that the policies have something to weigh. Synthfaces are drawn by a program: the
table says how calibration behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from flags import flags_of

import fqbench
from fqbench.contracts.artifacts import Artifact
from fqbench.fairness.evaluated import EvaluatedArtifact
from fqbench.fairness.results import Estimate, GapEstimate
from fqbench.run import Run
from fqbench.terminal import TerminalReporter
from fqbench.workspace.kinds import ARTIFACTS

POLICIES = "as-sampled,balanced,stratified,minimax"
GROUPS = "skin_tone,age_group"  # the demo's: of all 18 intersections a random draw misses one now and then
RULES = "minmax,mean_minmax,percentile=99.99,entropy,mse"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--rules", default=RULES)
    parser.add_argument("--bits", default="8,4")
    options, rest = parser.parse_known_args()
    flags: dict[str, Any] = {"calib": "random", "calib_by": GROUPS, "by": GROUPS} | flags_of(rest)
    run = fqbench.experiment(options.workspace, reporter=TerminalReporter(), **flags)
    artifacts = [fqbench.reference(run)]
    levels = {artifacts[0].id: "float"}
    for bits in map(int, options.bits.split(",")):
        for policy in options.policies.split(","):
            for rule in ["mse"] if policy == "minimax" else options.rules.split(","):
                artifact = _quantized(run, bits, policy, rule)
                artifacts.append(artifact)
                levels[artifact.id] = run.workspace.get(artifact.id, ARTIFACTS).facts.support.value
    records = {run.workspace.get(artifact.id, ARTIFACTS).manifest.inputs.get("record") for artifact in artifacts[1:]}
    evaluation = fqbench.evaluate(run, artifacts)
    print(f"{evaluation.notice}\nrecord: {', '.join(sorted(map(str, records)))}; {evaluation.split} split")
    print("| artifact | arithmetic | accuracy | worst-group accuracy | ΔDP | change of ΔDP from FP32 |")
    print("|---|---|---|---|---|---|")
    for row in evaluation.artifacts:
        print(_row(row, levels[row.id]))


def _quantized(run: Run, bits: int, policy: str, rule: str) -> Artifact:
    return fqbench.quantize(run.with_options("quantize", bits=bits, calib_policy=policy, range_rule=rule))


def _row(artifact: EvaluatedArtifact, level: str) -> str:
    report = artifact.report
    cells = [artifact.label, level, _figure(report.overall.accuracy, 3)]
    cells += [_figure(report.gaps[name], 3) for name in ("worst_group_accuracy", "demographic_parity_difference")]
    change = artifact.change.gaps["demographic_parity_difference"] if artifact.change is not None else None
    cells.append("" if change is None else f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]")
    return "| " + " | ".join(cells) + " |"


def _figure(estimate: Estimate | GapEstimate, digits: int) -> str:
    if math.isnan(estimate.value):
        return "undefined"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


if __name__ == "__main__":
    main()
