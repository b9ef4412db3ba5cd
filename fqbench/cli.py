"""The command line: one thin function a verb, which parses, calls and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fqbench.errors import FqbenchError, GateFailed
from fqbench.options import TRACEBACK, asks, whole_numbers
from fqbench.stages.run import Run
from fqbench.terminal import Format, TerminalReporter, fail, print_json, stdout

# Click's base of "no such option", "not an integer" ...; typer carries its own copy of click in some versions.
ClickException: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a defect of fqbench, none of the codes that a CI job decides on

app = typer.Typer(
    name="fqbench",
    help="Quantize image classifiers for the runtime that ships them; measure its speed, and whom it now fails.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
models_app = typer.Typer(help="Look at classifiers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")

Reference = Annotated[
    str | None, typer.Option("--reference", help="Artifact that the others are compared with (default: FP32).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Artifacts (default: all of the configured model).")
]

reporting = {"reporter": TerminalReporter}


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


@app.command()
@asks("data", "model", "preprocessing", "train", **reporting)
def train(
    run: Run,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="A,B,...", help="Several seeds, one checkpoint each: 0,1,2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on a data set.

    Example: fqbench train --model resnet10t --data folder --root photos
    """
    from fqbench.stages.train import train as train_stage
    from fqbench.stages.train import train_seeds
    from fqbench.tables import print_entries, print_entry

    if seeds is None:
        print_entry(train_stage(run), as_json=as_json)
    else:
        print_entries(train_seeds(run, whole_numbers("--seeds", seeds)), as_json=as_json)


@app.command()
@asks("data", "model", "preprocessing", "train", **reporting)
def export(run: Run, as_json: Json = False) -> None:
    """Export the trained classifier to ONNX, or adopt your own ONNX file.

    Example: fqbench export --onnx model.onnx --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --data folder --root photos
    """
    from fqbench.stages.export import export as export_stage
    from fqbench.tables import print_entry

    print_entry(run.workspace.get(export_stage(run).id, "models"), as_json=as_json)


@app.command()
@asks("data", "model", "preprocessing", "train", "quantize", **reporting)
def quantize(run: Run, as_json: Json = False) -> None:
    """Quantize the configured model for a runtime; what is missing on the way is made first.

    Example: fqbench quantize --backend ort --bits 8 --calib balanced
    """
    from fqbench.stages.build import next_step
    from fqbench.stages.quantize import quantize as quantize_stage
    from fqbench.tables import print_entry

    artifact = quantize_stage(run)
    print_entry(run.workspace.get(artifact.id, "artifacts"), as_json=as_json)
    if todo := next_step(artifact):
        run.reporter.say(todo)


@app.command(name="eval")
@asks("data", "model", "preprocessing", "train", "quantize", "eval", **reporting)
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
@asks("data", "model", "preprocessing", "train", "quantize", "bench", **reporting)
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
@asks("data", "model", "preprocessing", "train", "quantize", "eval", "bench", **reporting)
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
@asks("data", "model", "preprocessing", "train", "quantize", "eval", **reporting)
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
@asks("data", "model", "preprocessing", "train", "quantize", "eval", **reporting)
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


@app.command()
@asks("data", "model", "preprocessing", "train", "bench", "build", **reporting)
def build(
    run: Run,
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="Artifact, or its beginning.")],
    as_json: Json = False,
) -> None:
    """Compile an artifact for the GPU at hand, for runtimes that need it.

    Example: fqbench build resnet10t-trt-int8-balanced --max-batch 8
    """
    from fqbench.stages.build import build as build_stage
    from fqbench.stages.quantize import open_artifact
    from fqbench.tables import print_entry

    made = build_stage(run, open_artifact(run.workspace.get(artifact_id, "artifacts")))
    print_entry(run.workspace.get(made.id, "artifacts"), as_json=as_json)


@app.command()
@asks("data", "model", "preprocessing", "train", "quantize", "eval", **reporting)
def pack(
    run: Run,
    ids: Ids = None,
    out: Annotated[Path | None, typer.Option("--out", help="The archive (default: ID.fqpack.zip here).")] = None,
) -> None:
    """Write artifacts and prepared test images into one archive, to run on another machine.

    Example: fqbench pack resnet10t-trt-int8-balanced
    """
    from fqbench.stages.pack import pack as pack_stage
    from fqbench.stages.select import subjects

    stdout().print(str(pack_stage(run, subjects(run, ids), out)), soft_wrap=True, highlight=False)


@app.command(name="run-pack")
@asks("bench", "build", **reporting)
def run_pack(
    run: Run,
    file: Annotated[Path, typer.Argument(help="What `fqbench pack` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="The result (default: beside FILE).")] = None,
) -> None:
    """Build, predict and time an archive's artifacts on this machine; needs no data set and no workspace.

    Example: fqbench run-pack resnet10t-trt-int8-balanced.fqpack.zip
    """
    from fqbench.stages.pack import run_pack as run_stage

    stdout().print(str(run_stage(run, file, out)), soft_wrap=True, highlight=False)


@app.command(name="import")
@asks(**reporting)
def import_(
    run: Run,
    file: Annotated[Path, typer.Argument(help="What `fqbench run-pack` wrote on the other machine.")],
    as_json: Json = False,
) -> None:
    """Bring the result of `fqbench run-pack` into the workspace, as runs measured on the other machine.

    Example: fqbench import resnet10t-trt-int8-balanced.fqresult.zip
    """
    from fqbench.report.latency import latency_sheet
    from fqbench.report.sheets import print_sheets
    from fqbench.stages.pack import import_results

    imported = import_results(run, file)
    ids = [entry.id for entry in imported.predictions]
    if as_json:
        print_json({"predictions": ids, "bench": imported.bench.id, "latency": imported.latency.to_dict()})
        return
    print_sheets([latency_sheet(imported.latency)], stdout())
    run.reporter.say(f"per group: fqbench eval {' '.join(ids)}")


@app.command(name="list")
@asks(**reporting)
def list_entries(
    run: Run,
    kind: Annotated[str | None, typer.Argument(help="Only this kind: artifacts, predictions ...")] = None,
    as_json: Json = False,
) -> None:
    """List what is in the workspace.

    Example: fqbench list artifacts
    """
    from fqbench.tables import print_entries

    print_entries(run.workspace.entries(kind), as_json=as_json)


@app.command()
@asks(**reporting)
def show(
    run: Run,
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an entry, or its beginning.")],
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Of an artifact: which ranges clip which group.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one entry of the workspace: its inputs, seeds, versions and facts.

    Example: fqbench show resnet10t-ort-int8-balanced --calibration
    """
    from fqbench.report.calibration import print_calibration
    from fqbench.tables import print_manifest

    entry = run.workspace.get(entry_id, "artifacts" if calibration else None)
    print_calibration(entry, as_json=as_json) if calibration else print_manifest(entry, as_json=as_json)


@app.command()
@asks(**reporting)
def doctor(run: Run, as_json: Json = False) -> None:
    """Say what runs on this machine, what is missing, and how to get it.

    Example: fqbench doctor
    """
    from fqbench.doctor import examine
    from fqbench.tables import print_health

    print_health(examine(run.workspace), as_json=as_json)


@data_app.command()
@asks("data", **reporting)
def preview(
    run: Run,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write the PNG.")] = Path("preview.png"),
    per_group: Annotated[int, typer.Option("--per-group", min=1, help="Images a row.")] = 12,
) -> None:
    """Write a contact sheet: one row a group, so that you see what the model sees.

    synthfaces are drawn by a program: they test the pipeline and are no evidence about people.
    Example: fqbench data preview synthfaces --out faces.png
    """
    from fqbench.data.preview import contact_sheet
    from fqbench.stages.read import read
    from fqbench.tables import print_preview

    samples = read(run.with_options("data", name=name) if name else run)
    print_preview(contact_sheet(samples, out, per_group=per_group), out, samples)


@data_app.command(name="inspect")
@asks("data", **reporting)
def inspect_data(
    run: Run,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="A,B,...", help="Sensitive features that make the groups.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Count a data set by split, class and group, and list its problems.

    Example: fqbench data inspect celeba --root CelebA --label Smiling
    """
    from fqbench.data.inspect import inspect
    from fqbench.stages.read import read
    from fqbench.tables import print_inspection

    samples = read(run.with_options("data", name=name) if name else run)
    print_inspection(inspect(samples, [part.strip() for part in by.split(",")] if by else None), as_json=as_json)


@models_app.command(name="list")
def list_models(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name (default: the study's models).")] = None,
    as_json: Json = False,
    traceback: TRACEBACK = False,  # noqa: ARG001 - read by `fail`
) -> None:
    """List the classifiers that --model takes.

    Example: fqbench models list mobilenet
    """
    from fqbench.models.profile import list_models as listed
    from fqbench.tables import print_models

    print_models(listed(pattern), as_json=as_json)


@models_app.command()
def profile(
    name: Annotated[str, typer.Argument(help="Classifier: any name of timm or torchvision.")],
    size: Annotated[int | None, typer.Option("--size", min=8, max=4096, help="Input size (default: its own).")] = None,
    as_json: Json = False,
    traceback: TRACEBACK = False,  # noqa: ARG001 - read by `fail`
) -> None:
    """Show what a classifier costs: parameters, FLOPs, memory, and the operators of its ONNX graph.

    Example: fqbench models profile mobilenet_v2
    """
    from fqbench.models.profile import profile as profiled
    from fqbench.tables import print_profile

    print_profile(profiled(name, size=size), as_json=as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes a line on stderr and an exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        sys.exit(typer.main.get_command(app).main(given, prog_name="fqbench", standalone_mode=False) or 0)
    except FqbenchError as error:
        fail(str(error), error, given, error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; finished stages are kept, run again to go on.", None, given, 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except ClickException as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        fail(f"a defect of fqbench: {reason}; please report it with --traceback.", error, given, INTERNAL_ERROR)


if __name__ == "__main__":
    main()
