"""Verbs that find out which layers harm which groups, and mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fqbench.cli.app import MEASURE, QUANTIZED, app

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
