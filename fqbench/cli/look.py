"""Verbs that inspect the workspace, the machine, data sets and classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import INSPECT, Json, app

if TYPE_CHECKING:
    from fqbench.run import Run

data_app = app.group("data", "Preview and check data sets.", panel=INSPECT)
models_app = app.group("models", "List and profile classifiers.", panel=INSPECT)


@app.verb("list", panel=INSPECT)
def list_entries(
    run: Run,
    kind: Annotated[str | None, typer.Argument(help="List one kind only: artifacts, predictions ...")] = None,
    as_json: Json = False,
) -> None:
    """List the entries of the workspace.

    Example: fqbench list artifacts
    """
    from fqbench.tables import print_entries

    print_entries(run.workspace.entries(kind), as_json=as_json)


@app.verb("show", panel=INSPECT)
def show(
    run: Run,
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the entry, or a unique prefix.")],
    calibration: Annotated[
        bool, typer.Option("--calibration", help="For an artifact: clipping and noise of its ranges per group.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show an entry: inputs, seeds, versions, results.

    Example: fqbench show resnet10t-ort-int8-balanced --calibration
    """
    from fqbench.report.calibration import print_calibration
    from fqbench.tables import print_manifest

    entry = run.workspace.get(entry_id, "artifacts" if calibration else None)
    print_calibration(entry, as_json=as_json) if calibration else print_manifest(entry, as_json=as_json)


@app.verb("verify", panel=INSPECT)
def verify(
    run: Run,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Entries (default: all).")] = None,
    as_json: Json = False,
) -> None:
    """Check every file of the workspace against its SHA-256.

    Exit code 4 where anything is damaged; each damage is listed with the command that makes the entry again.

    Example: fqbench verify
    """
    from fqbench.errors import DataError
    from fqbench.tables import print_verification
    from fqbench.workspace.upkeep import verify as check

    found = check(run.workspace, ids or ())
    print_verification(found, as_json=as_json)
    if found.damages:
        raise typer.Exit(DataError.exit_code)


@app.verb("gc", panel=INSPECT)
def collect_garbage(
    run: Run,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this, it is only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List, or delete, what no result of the workspace refers to.

    Remains of stopped runs, and entries that no artifact, prediction, evaluation, measurement or gate was made of.

    Example: fqbench gc --delete
    """
    from fqbench.tables import print_garbage
    from fqbench.workspace.upkeep import collect

    print_garbage(collect(run.workspace, delete=delete), deleted=delete, as_json=as_json)


@app.verb("doctor", panel=INSPECT)
def doctor(run: Run, as_json: Json = False) -> None:
    """Check which runtimes work on this machine.

    Names what is missing, and the command that installs it.

    Example: fqbench doctor
    """
    from fqbench.doctor import examine
    from fqbench.tables import print_health

    print_health(examine(run.workspace), as_json=as_json)


@data_app.verb("preview", own=("data",))
def preview(
    run: Run,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="PNG file to write.")] = Path("preview.png"),
    per_group: Annotated[int, typer.Option("--per-group", metavar="N", min=1, help="Images per row.")] = 12,
) -> None:
    """Write a contact sheet with one row per group.

    synthfaces are drawn by a program: they test the pipeline and are not evidence about people.

    Example: fqbench data preview synthfaces --out faces.png
    """
    from fqbench.data.preview import contact_sheet
    from fqbench.stages.read import read
    from fqbench.tables import print_preview

    samples = read(run.with_options("data", name=name) if name else run)
    print_preview(contact_sheet(samples, out, per_group=per_group), out, samples)


@data_app.verb("inspect", own=("data",))
def inspect_data(
    run: Run,
    name: Annotated[str | None, typer.Argument(help="Data set (default: the configured one).")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="A,B,...", help="Sensitive features that define the groups.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Count images per split, class and group; list problems.

    Example: fqbench data inspect celeba --root CelebA --label Smiling
    """
    from fqbench.data.inspect import inspect
    from fqbench.stages.read import read
    from fqbench.tables import print_inspection

    samples = read(run.with_options("data", name=name) if name else run)
    print_inspection(inspect(samples, [part.strip() for part in by.split(",")] if by else None), as_json=as_json)


@models_app.verb("list")
def list_models(
    pattern: Annotated[str | None, typer.Argument(help="Part of the name (default: the models of the study).")] = None,
    as_json: Json = False,
) -> None:
    """List the classifiers that --model takes.

    Example: fqbench models list mobilenet
    """
    from fqbench.models.profile import list_models as listed
    from fqbench.tables import print_models

    print_models(listed(pattern), as_json=as_json)


@models_app.verb("profile")
def profile(
    name: Annotated[str, typer.Argument(help="Any timm or torchvision model.")],
    size: Annotated[int | None, typer.Option("--size", metavar="N", min=8, max=4096, help="Input size.")] = None,
    as_json: Json = False,
) -> None:
    """Show parameters, FLOPs, memory and ONNX operators.

    Example: fqbench models profile mobilenet_v2
    """
    from fqbench.models.profile import profile as profiled
    from fqbench.tables import print_profile

    print_profile(profiled(name, size=size), as_json=as_json)
