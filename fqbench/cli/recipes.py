"""Verbs on recipes: settings per layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import INSPECT, TRAINED, app
from fqbench.errors import SchemeNotSupported

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run

recipe_app = app.group("recipe", "Show and check recipes (settings per layer).", panel=INSPECT)


@recipe_app.verb("show")
def show_recipe(
    run: Run,
    show: Show,
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the artifact, a unique prefix, or its hash.")],
) -> None:
    """Show the settings and the cost of each layer of an artifact.

    Example: fqbench recipe show resnet10t-ort-int8-balanced
    """
    from fqbench.report.recipe import recipe_document
    from fqbench.stages.recipe import recipe_of

    found = recipe_of(run, artifact_id)
    show(recipe_document(found.title, found.layers, found.ranges))


@recipe_app.verb("check", own=("quantize",), more=TRAINED)
def check(
    run: Run,
    show: Show,
    file: Annotated[Path, typer.Argument(help="YAML recipe.")],
) -> None:
    """Resolve a recipe for the configured model and backend.

    Exit code 2 where the backend cannot execute it.

    Example: fqbench recipe check hybrid.yaml --backend ort
    """
    from fqbench.report.recipe import recipe_document
    from fqbench.stages.recipe import check_recipe

    found = check_recipe(run, file)
    show(recipe_document(found.title, found.layers, problems=found.problems))
    if found.problems:
        raise typer.Exit(SchemeNotSupported.exit_code)


@recipe_app.verb("important", more=("quantize", *TRAINED, "eval"))
def important(
    run: Run,
    show: Show,
    file: Annotated[Path, typer.Argument(help="YAML recipe to write.")],
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="Layers to keep at more bits.")] = 3,
    kept_bits: Annotated[
        int, typer.Option("--kept-bits", metavar="N", help="Bits of these layers; 32 is float. [8, 32]")
    ] = 8,
    importance: Annotated[
        str,
        typer.Option("--importance", metavar="NAME", help="Measure of importance. [fisher, gradient]"),
    ] = "fisher",
    per_group: Annotated[int, typer.Option("--per-group", metavar="N", min=1, help="Most images of a group.")] = 64,
) -> None:
    """Write a recipe that keeps the layers that matter most to the worst-off groups.

    Importance is measured on validation images, by gradients of the FP32 network.

    Example: fqbench recipe important kept.yaml --keep 3 --bits 4
    """
    from fqbench.quant.recipe import write_recipe
    from fqbench.report.importance import importance_document
    from fqbench.stages.importance import important as important_stage

    found = important_stage(run, keep=keep, bits=kept_bits, by=importance, per_group=per_group)
    write_recipe(found.scheme, file)
    show(importance_document(found, file))
