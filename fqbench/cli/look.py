"""Verbs that look: at the workspace, the machine, data sets and classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fqbench.cli.app import Json, app, data_app, models_app, reporting
from fqbench.cli.options import TRACEBACK, asks
from fqbench.run import Run


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
