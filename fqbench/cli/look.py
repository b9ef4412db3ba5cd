"""Verbs that inspect the workspace, the machine, data sets and classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import INSPECT, app

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run

data_app = app.group("data", "Preview and check data sets.", panel=INSPECT)
models_app = app.group("models", "List, profile and check classifiers.", panel=INSPECT)


@app.verb("list", panel=INSPECT)
def list_entries(
    run: Run,
    show: Show,
    kind: Annotated[str | None, typer.Argument(help="List one kind only: artifacts, predictions ...")] = None,
) -> None:
    """List the entries of the workspace.

    Example: fqbench list artifacts
    """
    from fqbench.report.entries import entries_document

    show(entries_document(run.workspace.entries(kind)))


@app.verb("show", panel=INSPECT)
def show_entry(
    run: Run,
    show: Show,
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the entry, a unique prefix, or its hash.")],
    calibration: Annotated[
        bool, typer.Option("--calibration", help="For an artifact: clipping and noise of its ranges per group.")
    ] = False,
) -> None:
    """Show an entry: inputs, seeds, versions, results.

    Example: fqbench show resnet10t-ort-int8-balanced --calibration
    """
    from fqbench.report.calibration import calibration_document
    from fqbench.report.entries import manifest_document
    from fqbench.report.placement import placement_document
    from fqbench.workspace.kinds import PLACEMENTS

    entry = run.workspace.get(entry_id, "artifacts" if calibration else None)
    if entry.manifest.kind == PLACEMENTS.name:
        show(placement_document(run.workspace.get(entry.id, PLACEMENTS)))
    else:
        show(calibration_document(entry) if calibration else manifest_document(entry))


@app.verb("verify", panel=INSPECT)
def verify(
    run: Run,
    show: Show,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Entries (default: all).")] = None,
) -> None:
    """Check every file of the workspace against its SHA-256.

    Exit code 4 where anything is damaged; each damage is listed with the command that makes the entry again.

    Example: fqbench verify
    """
    from fqbench.errors import DataError
    from fqbench.report.upkeep import verification_document
    from fqbench.workspace.upkeep import verify as check

    found = check(run.workspace, ids or ())
    show(verification_document(found))
    if found.damages:
        raise typer.Exit(DataError.exit_code)


@app.verb("gc", panel=INSPECT)
def collect_garbage(
    run: Run,
    show: Show,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this, it is only listed.")] = False,
) -> None:
    """List or delete what no result refers to.

    Covers leftovers of interrupted runs, and entries on which no artifact, prediction, evaluation, measurement or gate
    depends.

    Example: fqbench gc --delete
    """
    from fqbench.report.upkeep import garbage_document
    from fqbench.workspace.upkeep import collect

    show(garbage_document(collect(run.workspace, delete=delete), deleted=delete))


@app.verb("doctor", panel=INSPECT)
def doctor(
    run: Run,
    show: Show,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Explain the options of this backend.")] = None,
) -> None:
    """Check which runtimes work on this machine.

    Names what is missing, and the command that installs it.

    Example: fqbench doctor
    """
    from fqbench import plugins
    from fqbench.doctor import examine
    from fqbench.report.health import backend_document, health_document

    show(backend_document(plugins.backend(name)) if name else health_document(examine(run.workspace)))


@data_app.verb("preview", own=("data",))
def preview(
    run: Run,
    show: Show,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="PNG file to write.")] = Path("preview.png"),
    per_group: Annotated[int, typer.Option("--per-group", metavar="N", min=1, help="Images per row.")] = 12,
) -> None:
    """Write a contact sheet with one row per group.

    synthfaces are drawn by a program: they test the pipeline and are not evidence about people.

    Example: fqbench data preview synthfaces --out faces.png
    """
    from fqbench.data.preview import contact_sheet
    from fqbench.report.data import preview_document
    from fqbench.stages.read import read

    samples = read(run.with_options("data", name=name) if name else run)
    samples.require_one_label("a contact sheet")
    show(preview_document(contact_sheet(samples, out, per_group=per_group), out, samples))


@data_app.verb("inspect", own=("data",))
def inspect_data(
    run: Run,
    show: Show,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="A,B,...", help="Sensitive features that define the groups.")
    ] = None,
) -> None:
    """Count images per split, class and group; list problems.

    Example: fqbench data inspect celeba --root CelebA --label Smiling
    """
    from fqbench.data.inspect import inspect
    from fqbench.report.data import inspection_document
    from fqbench.stages.read import read

    samples = read(run.with_options("data", name=name) if name else run)
    show(inspection_document(inspect(samples, [part.strip() for part in by.split(",")] if by else None)))


@models_app.verb("check", own=("model", "preprocessing"), more=("data",))
def check_model(
    run: Run,
    show: Show,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX classifier.")],
) -> None:
    """Find the preprocessing an ONNX file was trained with.

    Tries the usual conventions on labelled validation images, and names the one that the accuracy supports.

    Example: fqbench models check model.onnx --data folder --root photos
    """
    from fqbench.report.check import check_document
    from fqbench.stages.check import check_model as check

    show(check_document(check(run, file)))


@models_app.verb("list")
def list_models(
    show: Show,
    pattern: Annotated[str | None, typer.Argument(help="Part of the name (default: the models of the study).")] = None,
) -> None:
    """List the classifiers that --model takes.

    Example: fqbench models list mobilenet
    """
    from fqbench.models.profile import list_models as listed
    from fqbench.report.models import models_document

    show(models_document(listed(pattern)))


@models_app.verb("profile")
def profile(
    show: Show,
    name: Annotated[str, typer.Argument(help="Any timm or torchvision model.")],
    size: Annotated[int | None, typer.Option("--size", metavar="N", min=8, max=4096, help="Input size.")] = None,
) -> None:
    """Show parameters, FLOPs, memory and ONNX operators.

    Example: fqbench models profile mobilenet_v2
    """
    from fqbench.models.profile import profile as profiled
    from fqbench.report.models import profile_document

    show(profile_document(profiled(name, size=size)))
