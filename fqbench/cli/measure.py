"""Verbs that evaluate, measure and check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MEASURE, QUANTIZED, TRAINED, Ids, Reference, app
from fqbench.errors import GateFailed, InputError

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run


@app.verb("demo", panel=MEASURE, more=("data", "eval", "bench"))
def demo(
    run: Run,
    show: Show,
    debug: Annotated[
        bool, typer.Option("--debug", help="Small data and short training, to test an installation in seconds.")
    ] = False,
    details: Annotated[bool, typer.Option("--details", help="Print all tables, not only the main ones.")] = False,
) -> None:
    """Run the whole workflow on generated faces.

    Draws synthfaces, trains a small classifier, quantizes it to INT8, to INT4 in the plain way, and to INT4 with chosen
    ranges and rounding. Reports a summary, accuracy per group and latency.

    Example: fqbench demo
    """
    from fqbench.demo import run_demo
    from fqbench.report.demo import demo_document

    show(demo_document(run_demo(run, debug=debug), details=details))


@app.verb("eval", panel=MEASURE, own=("eval",), more=QUANTIZED)
def evaluate(
    run: Run,
    show: Show,
    ids: Ids = None,
    reference: Reference = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", metavar="PATH", help="Predictions of another program, as CSV or Parquet."),
    ] = None,
    attribute: Annotated[
        str | None,
        typer.Option("--attribute", metavar="A,B,...", help="Attributes to show in full, where there are several."),
    ] = None,
) -> None:
    """Evaluate accuracy and fairness per group.

    Compares each artifact with the FP32 baseline, and tests whether each change is significant or equivalent. Several
    attributes are evaluated from one run over the images.

    Example: fqbench eval --by skin_tone --markdown
    """
    from fqbench.config import names
    from fqbench.report.attributes import attributes_document
    from fqbench.report.evaluation import evaluation_document
    from fqbench.stages.evaluate import evaluate_views
    from fqbench.stages.quantize import subjects

    views = evaluate_views(run, subjects(run, ids, reference), files=predictions or ())
    several = any(view.attribute for view in views)
    show(attributes_document(views, names(attribute)) if several else evaluation_document(*views))


@app.verb("bench", panel=MEASURE, own=("bench",), more=QUANTIZED)
def bench(
    run: Run,
    show: Show,
    ids: Ids = None,
    reference: Reference = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, even if a stored result exists.")] = False,
    all_backends: Annotated[
        bool,
        typer.Option("--all-backends", help="Compare FP32, casts and the configured scheme on every usable runtime."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PATH", help="Write distributions, and p50 by batch size, as an SVG file."),
    ] = None,
) -> None:
    """Measure and compare the latency of artifacts.

    All artifacts run interleaved in one process, so that drift of the machine affects all of them alike. Several batch
    sizes and thread counts give one table. With --all-backends the configured model is quantized for every runtime
    that is usable here; the table has accuracy and the worst group's change, too, and marks the Pareto front.

    Example: fqbench bench --batch 1,8 --threads 1,2 --plot latency.svg
    """
    from fqbench.report.latency import grid_document
    from fqbench.report.latency_plot import write_latency_plot
    from fqbench.report.runtimes import runtimes_document
    from fqbench.stages.bench import bench_grid
    from fqbench.stages.quantize import subjects
    from fqbench.stages.runtimes import compare_runtimes

    if all_backends:
        if ids or reference:
            raise InputError("--all-backends makes its own artifacts; leave the ids and --reference out.")
        found = compare_runtimes(run, again=again)
        if plot is not None:
            write_latency_plot(found.latency, plot)
        show(runtimes_document(found))
        return
    reports = bench_grid(run, subjects(run, ids, reference, runnable=True), again=again)
    if plot is not None:
        write_latency_plot(reports, plot)
    show(grid_document(reports))


@app.verb("gate", panel=MEASURE, more=("eval", "bench", *QUANTIZED))
def gate(
    run: Run,
    show: Show,
    limits: Annotated[Path, typer.Option("--limits", metavar="PATH", help="YAML file of limits.")],
    ids: Ids = None,
    reference: Reference = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="PATH", help="Write a JUnit XML report to this file.")
    ] = None,
) -> None:
    """Check artifacts against limits, for a CI job.

    A check compares a confidence interval, not a point estimate, with its limit: it passes, fails or is undecided.
    The exit code is 1 if the gate is not passed.

    Example: fqbench gate --limits limits.yaml --junit gate.xml
    """
    from fqbench.report.gate import gate_document, write_junit
    from fqbench.stages.gate import gate as gate_stage

    report = gate_stage(run, limits, ids, reference)
    if junit is not None:
        write_junit(report, junit)
    show(gate_document(report))
    raise typer.Exit(0 if report.passed else GateFailed.exit_code)


@app.verb("replicate", panel=MEASURE, more=("quantize", "eval", *TRAINED, "qat", "backends"))
def replicate(
    run: Run,
    show: Show,
    seeds: Annotated[str, typer.Option("--seeds", metavar="A,B,...", help="Training seeds: 0,1,2.")] = "",
    draws: Annotated[
        str, typer.Option("--draws", metavar="A,B,...", help="Random seeds of the calibration sampler: 0,1,2.")
    ] = "",
) -> None:
    """Repeat the comparison with FP32 over random seeds.

    Reports the change per group with its variance by source (training seeds, calibration draws, test images), and the
    images whose most frequent prediction changes.

    Example: fqbench replicate --seeds 0,1,2 --draws 0,1,2 --by skin_tone
    """
    from fqbench.config import whole_numbers
    from fqbench.report.replication import replication_document
    from fqbench.stages.replicate import replicate as stage

    show(replication_document(stage(run, whole_numbers("--seeds", seeds), whole_numbers("--draws", draws))))


@app.verb("calibrate-threshold", panel=MEASURE, more=("eval", *QUANTIZED))
def calibrate_threshold(
    run: Run,
    show: Show,
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
) -> None:
    """Refit the decision threshold of an artifact.

    Fits on the validation split, reports on the test split, and stores the result as a new artifact. Without
    --constraint all groups share one threshold.

    Example: fqbench calibrate-threshold --constraint equalized_odds --by skin_tone
    """
    from fqbench.report.evaluation import evaluation_document
    from fqbench.stages.threshold import calibrate_threshold as stage

    show(evaluation_document(stage(run, artifact_id, constraint)))
