"""The application, and the options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

from fqbench.terminal import TerminalReporter

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
