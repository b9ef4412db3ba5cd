"""The help of a verb: its own options first, the other sections in one line each; ``--help-all`` explains all."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

GENERAL, OUTPUT = "General", "Output"
COMPLETE = "fqbench.help_all"
FIRST_FLAGS = 3


class VerbCommand(TyperCommand):
    """A command whose options are shown in panels.

    Attributes
    ----------
    more : tuple of str
        Sections of the configuration that ``--help`` folds.
    """

    more: tuple[str, ...] = ()

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the panels; sections that are not the verb's own are folded, except with ``--help-all``."""
        panels: dict[str, list[Any]] = {}
        for parameter in self.get_params(ctx):
            if parameter.get_help_record(ctx) is not None:
                panels.setdefault(_panel(parameter), []).append(parameter)
        general = [(name, panels.pop(name)) for name in (OUTPUT, GENERAL) if name in panels]
        folded = {} if ctx.meta.get(COMPLETE) else _titles(self.more)
        open_panels = [(name, rows) for name, rows in panels.items() if name not in folded]
        for name, parameters in open_panels:
            with formatter.section(name):
                formatter.write_dl([parameter.get_help_record(ctx) for parameter in parameters])
        if folded:
            room = formatter.width - max(map(len, folded)) - 4
            rows = [(name, _line(folded[name], panels[name], room)) for name in panels if name in folded]
            with formatter.section("More options, explained by --help-all"):
                formatter.write_dl(rows)
        for name, parameters in general:
            with formatter.section(name):
                formatter.write_dl([parameter.get_help_record(ctx) for parameter in parameters])


def help_all(ctx: typer.Context, asked: bool) -> None:
    """Print the complete help and end."""
    if asked:
        ctx.meta[COMPLETE] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


def _panel(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    if parameter.name == "help":
        return GENERAL
    return getattr(parameter, "rich_help_panel", None) or "Options"


def _titles(sections: tuple[str, ...]) -> dict[str, str]:
    """Return the descriptions of sections by their titles."""
    from fqbench.config import Config

    fields = (Config.model_fields[name] for name in sections)
    return {field.title or "": field.description or "" for field in fields}


def _line(description: str, parameters: list[Any], room: int) -> str:
    """Return one line about a section: its title and the first flags that fit."""
    flags = [parameter.opts[0] for parameter in parameters]
    lines = (
        f"{description} ({', '.join(flags[:count])}{', ...' if count < len(flags) else ''})"
        for count in range(min(len(flags), FIRST_FLAGS), 0, -1)
    )
    return next((line for line in lines if len(line) <= room), description)
