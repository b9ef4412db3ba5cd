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
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the artifact, or a unique prefix.")],
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
