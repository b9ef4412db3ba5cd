"""Verbs that measure: groups, milliseconds, limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MEASURE, QUANTIZED, TRAINED, Ids, Json, Reference, app
from fqbench.errors import GateFailed
from fqbench.terminal import Format, print_json, stdout

if TYPE_CHECKING:
    from fqbench.run import Run


@app.verb("demo", panel=MEASURE, more=("data", "eval", "bench"))
def demo(
    run: Run,
    debug: Annotated[
        bool, typer.Option("--debug", help="Small data and short training, to test an installation in seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole workflow on generated faces.

    Draws synthfaces, trains a small classifier, quantizes it to INT8 with a random and with a balanced calibration set,
    and reports accuracy per group and latency.

    Example: fqbench demo
    """
    from fqbench.demo import run_demo
    from fqbench.report.evaluation import evaluation_sheets
    from fqbench.report.latency import latency_sheet
    from fqbench.report.sheets import print_sheets

    result = run_demo(run, debug=debug)
    if as_json:
        print_json({"evaluation": result.evaluation.to_dict(), "latency": result.latency.to_dict()})
        return
    print_sheets([*evaluation_sheets(result.evaluation, bars=True), latency_sheet(result.latency)], stdout())


@app.verb(
    "eval",
    panel=MEASURE,
    own=("eval",),
    more=QUANTIZED,
)
def evaluate(
    run: Run,
    ids: Ids = None,
    reference: Reference = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", metavar="PATH", help="Predictions of another program, as CSV or Parquet."),
    ] = None,
    style: Annotated[
        Format, typer.Option("--format", metavar="NAME", help="text, json, csv, markdown or latex.")
    ] = Format.TEXT,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Short for --format csv.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Short for --format markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Short for --format latex.")] = False,
) -> None:
    """Evaluate accuracy and fairness per group.

    Compares each artifact with the FP32 baseline, and tests whether each change is significant or equivalent.

    Example: fqbench eval --by skin_tone --markdown
    """
    from fqbench.report.evaluation import show_evaluations
    from fqbench.stages.evaluate import evaluate_views
    from fqbench.stages.select import subjects

    short = {Format.JSON: as_json, Format.CSV: as_csv, Format.MARKDOWN: as_markdown, Format.LATEX: as_latex}
    chosen = next((form for form, given in short.items() if given), style)
    show_evaluations(evaluate_views(run, subjects(run, ids, reference), files=predictions or ()), chosen)


@app.verb(
    "bench",
    panel=MEASURE,
    own=("bench",),
    more=QUANTIZED,
)
def bench(
    run: Run,
    ids: Ids = None,
    reference: Reference = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, even if a stored result exists.")] = False,
    as_json: Json = False,
) -> None:
    """Measure and compare the latency of artifacts.

    All artifacts run interleaved in one process, so that drift of the machine affects all of them alike.

    Example: fqbench bench --batch 1
    """
    from fqbench.report.latency import latency_sheet
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.bench import bench as bench_stage
    from fqbench.stages.select import subjects

    report = bench_stage(run, subjects(run, ids, reference, runnable=True), again=again)
    print_json(report.to_dict()) if as_json else print_sheets([latency_sheet(report)], stdout())


@app.verb(
    "gate",
    panel=MEASURE,
    more=("eval", "bench", *QUANTIZED),
)
def gate(
    run: Run,
    limits: Annotated[Path, typer.Option("--limits", metavar="PATH", help="YAML file of limits.")],
    ids: Ids = None,
    reference: Reference = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="PATH", help="Write a JUnit XML report to this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check artifacts against limits, for a CI job.

    A check compares a confidence interval, not a point estimate, with its limit: it passes, fails or is undecided.
    The exit code is 1 if the gate is not passed.

    Example: fqbench gate --limits limits.yaml --junit gate.xml
    """
    from fqbench.report.gate import show_gate
    from fqbench.stages.gate import gate as gate_stage

    report = gate_stage(run, limits, ids, reference)
    show_gate(report, junit=junit, as_json=as_json)
    raise typer.Exit(0 if report.passed else GateFailed.exit_code)


@app.verb("replicate", panel=MEASURE, more=("quantize", "eval", *TRAINED, "qat", "backends"))
def replicate(
    run: Run,
    seeds: Annotated[str, typer.Option("--seeds", metavar="A,B,...", help="Training seeds: 0,1,2.")] = "",
    draws: Annotated[
        str, typer.Option("--draws", metavar="A,B,...", help="Random seeds of the calibration sampler: 0,1,2.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Repeat the comparison with FP32 over random seeds.

    Reports the change per group with its variance by source (training seeds, calibration draws, test images), and the
    images whose most frequent prediction changes.

    Example: fqbench replicate --seeds 0,1,2 --draws 0,1,2 --by skin_tone
    """
    from fqbench.config import whole_numbers
    from fqbench.report.replication import replication_sheets
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.replicate import replicate as stage

    result = stage(run, whole_numbers("--seeds", seeds), whole_numbers("--draws", draws))
    print_json(result.to_dict()) if as_json else print_sheets(replication_sheets(result), stdout())


@app.verb(
    "calibrate-threshold",
    panel=MEASURE,
    more=("eval", *QUANTIZED),
)
def calibrate_threshold(
    run: Run,
    artifact_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the artifact (default: the configured one).")
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option(
            "--constraint",
            metavar="NAME",
            help="Fit thresholds per group that equalize this: demographic_parity, equalized_odds ...",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Refit the decision threshold of an artifact.

    Fits on the validation split, reports on the test split, and stores the result as a new artifact. Without
    --constraint all groups share one threshold.

    Example: fqbench calibrate-threshold --constraint equalized_odds --by skin_tone
    """
    from fqbench.report.evaluation import show_evaluations
    from fqbench.stages.threshold import calibrate_threshold as stage

    show_evaluations([stage(run, artifact_id, constraint)], Format.JSON if as_json else Format.TEXT)
