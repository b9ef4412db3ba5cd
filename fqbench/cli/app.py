"""The application, and the arguments that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

from fqbench.cli.verbs import Verbs

MAKE, MEASURE, REMOTE, INSPECT = "Make", "Measure", "Run on another machine", "Inspect"
# Sections of the configuration that make a trained model, and an artifact of it that is executed.
TRAINED = ("data", "model", "preprocessing", "train", "objectives")
QUANTIZED = (*TRAINED, "qat", "quantize", "backends")

app = Verbs(
    "fqbench",
    "Quantize image classifiers for a target runtime, and measure their latency and their accuracy per group.",
)

Reference = Annotated[
    str | None, typer.Option("--reference", metavar="ID", help="Artifact to compare the others with (default: FP32).")
]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Artifacts (default: all of the configured model).")
]
