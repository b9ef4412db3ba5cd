"""Verbs that find out which layers harm which groups, and mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MEASURE, QUANTIZED, app
from fqbench.errors import GateFailed

if TYPE_CHECKING:
    from fqbench.cli.verbs import Show
    from fqbench.run import Run


@app.verb("diagnose", panel=MEASURE, more=("eval", *QUANTIZED))
def diagnose(
    run: Run,
    show: Show,
    artifact_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the artifact (default: the configured one).")
    ] = None,
    count: Annotated[
        int, typer.Option("--diagnose-images", metavar="N", min=20, help="Validation images, as many of each group.")
    ] = 256,
    sides: Annotated[
        str, typer.Option("--sides", metavar="A,B,...", help="What is quantized: both, weights, activations.")
    ] = "both,weights,activations",
    ways: Annotated[
        str,
        typer.Option("--ways", metavar="A,B", help="alone: the other layers in float; last: the others quantized."),
    ] = "alone,last",
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PATH", help="Write a heatmap of layers and groups, as SVG.")
    ] = None,
) -> None:
    """Find out which layer harms which group.

    Quantizes one layer at a time on validation images. Each side and way takes one pass per layer.

    Example: fqbench diagnose resnet10t-ort-int4a8-balanced --by skin_tone --plot layers.svg
    """
    from fqbench.config import names_among
    from fqbench.report.diagnosis import diagnosis_document, diagnosis_heatmap
    from fqbench.search.diagnose import diagnose as find
    from fqbench.search.diagnosed import SIDES, WAYS

    chosen = {"sides": names_among("--sides", sides, SIDES), "ways": names_among("--ways", ways, WAYS)}
    found = find(run, artifact_id, images=count, **chosen)
    if plot is not None:
        diagnosis_heatmap(found).save(plot)
    show(diagnosis_document(found))


@app.verb(
    "search",
    panel=MEASURE,
    more=("eval", "bench", *QUANTIZED),
    without=("bits", "act_bits", "method", "recipe", "range_rule", "keep_float", "weight_rule"),
)
def search(
    run: Run,
    show: Show,
    limits: Annotated[Path, typer.Option("--limits", metavar="PATH", help="YAML file of limits, as for gate.")],
    minimize: Annotated[str, typer.Option("--minimize", metavar="NAME", help="latency or size.")] = "latency",
    backends: Annotated[
        str, typer.Option("--backends", metavar="A,B,...", help="Runtimes (default: all that can be used here).")
    ] = "",
    bits: Annotated[str, typer.Option("--bits", metavar="A,B,...", help="Bits of the weights: 8, 4, 2.")] = "8,4",
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="Time for trials: 90s, 20m, 1h.")] = "20m",
    training: Annotated[
        bool, typer.Option("--allow-training", help="Try QAT where other means miss the limits.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Write the recipe to this file.")] = None,
) -> None:
    """Search the fastest or smallest artifact within limits.

    Mends the layers that harm a group and lowers the bits of the others, choosing on validation images. The test split
    judges the chosen artifact, once. The exit code is 1 if it is not shown to keep the limits.

    Example: fqbench search --limits limits.yaml --minimize size --by skin_tone --budget 10m --out recipe.yaml
    """
    from fqbench.report.search import search_document, write_found_recipe
    from fqbench.search.request import request
    from fqbench.search.search import search as find

    asked = request(limits, minimize=minimize, backends=backends, bits=bits, budget=budget, allow_training=training)
    report, entry_id = find(run, asked)
    if out is not None:
        write_found_recipe(report, out)
    show(search_document(report, entry_id))
    raise typer.Exit(0 if report.passed else GateFailed.exit_code)
