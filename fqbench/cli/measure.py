"""Verbs that measure: groups, milliseconds, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fqbench.cli.app import Ids, Json, Reference, app, reporting
from fqbench.cli.options import asks
from fqbench.errors import GateFailed
from fqbench.run import Run
from fqbench.terminal import Format, print_json, stdout


@app.command()
@asks("data", "bench", "eval", **reporting)
def demo(
    run: Run,
    debug: Annotated[
        bool, typer.Option("--debug", help="Smaller data and shorter training: seconds, not minutes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole main job on the embedded data set.

    Draws synthfaces, trains a small classifier, quantizes it to INT8 with a random and with a balanced calibration set,
    and prints what that does to each group and to the speed. Example: fqbench demo
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


@app.command(name="eval")
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "eval", **reporting)
def evaluate(
    run: Run,
    ids: Ids = None,
    reference: Reference = None,
    predictions: Annotated[
        list[Path] | None, typer.Option("--predictions", help="Table of predictions made elsewhere (CSV, Parquet).")
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TEXT,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Short for --format csv.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Short for --format markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Short for --format latex.")] = False,
) -> None:
    """Report, group by group, what each artifact gets right, beside FP32, with what changed and a verdict.

    Without IDs: all artifacts of the configured model, the configured one among them.
    Example: fqbench eval --by skin_tone --markdown
    """
    from fqbench.report.evaluation import show_evaluations
    from fqbench.stages.evaluate import evaluate_views
    from fqbench.stages.select import subjects

    short = {Format.JSON: as_json, Format.CSV: as_csv, Format.MARKDOWN: as_markdown, Format.LATEX: as_latex}
    chosen = next((form for form, given in short.items() if given), style)
    show_evaluations(evaluate_views(run, subjects(run, ids, reference), files=predictions or ()), chosen)


@app.command()
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "bench", **reporting)
def bench(
    run: Run,
    ids: Ids = None,
    reference: Reference = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew, though these were measured before.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the latency of artifacts against each other, interleaved in one process.

    Without IDs: all artifacts of the configured model, the configured one among them. Example: fqbench bench --batch 1
    """
    from fqbench.report.latency import latency_sheet
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.bench import bench as bench_stage
    from fqbench.stages.select import subjects

    report = bench_stage(run, subjects(run, ids, reference, runnable=True), again=again)
    print_json(report.to_dict()) if as_json else print_sheets([latency_sheet(report)], stdout())


@app.command()
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "eval", "bench", **reporting)
def gate(
    run: Run,
    limits: Annotated[Path, typer.Option("--limits", help="YAML file with the limits.")],
    ids: Ids = None,
    reference: Reference = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here, for a CI system.")] = None,
    as_json: Json = False,
) -> None:
    """Check artifacts against limits, on intervals: exit code 0 where they keep to them, 1 where not.

    Example: fqbench gate --limits limits.yaml --junit gate.xml
    """
    from fqbench.report.gate import show_gate
    from fqbench.stages.gate import gate as gate_stage

    report = gate_stage(run, limits, ids, reference)
    show_gate(report, junit=junit, as_json=as_json)
    raise typer.Exit(0 if report.passed else GateFailed.exit_code)


@app.command()
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "eval", **reporting)
def replicate(
    run: Run,
    seeds: Annotated[str, typer.Option("--seeds", help="Training seeds, comma-separated.")] = "",
    draws: Annotated[str, typer.Option("--draws", help="Seeds of the calibration sampler, comma-separated.")] = "",
    as_json: Json = False,
) -> None:
    """Compare the configured artifact with FP32 over several training seeds and calibration draws.

    Shows the change of every group with the variance by source, and the images whose usual prediction changes.
    Example: fqbench replicate --seeds 0,1,2 --draws 0,1,2 --by skin_tone
    """
    from fqbench.config import whole_numbers
    from fqbench.report.replication import replication_sheets
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.replicate import replicate as stage

    result = stage(run, whole_numbers("--seeds", seeds), whole_numbers("--draws", draws))
    print_json(result.to_dict()) if as_json else print_sheets(replication_sheets(result), stdout())


@app.command(name="calibrate-threshold")
@asks("data", "model", "preprocessing", "train", "qat", "quantize", "eval", **reporting)
def calibrate_threshold(
    run: Run,
    artifact_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Artifact (default: the configured one).")
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option(help="Thresholds per group that make this equal: demographic_parity, equalized_odds ..."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the decision threshold of an artifact anew on the validation split, and show the effect on the test split.

    Without --constraint one threshold for all is fitted. The result is an artifact of its own.
    Example: fqbench calibrate-threshold --constraint equalized_odds --by skin_tone
    """
    from fqbench.report.evaluation import show_evaluations
    from fqbench.stages.threshold import calibrate_threshold as stage

    show_evaluations([stage(run, artifact_id, constraint)], Format.JSON if as_json else Format.TEXT)
