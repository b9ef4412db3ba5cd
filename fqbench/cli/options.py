"""Build a verb's command from its own parameters and the fields of the configuration."""

from __future__ import annotations

import inspect
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fqbench.cli.help import GENERAL, OUTPUT, VerbCommand, help_all
from fqbench.config import BACKEND_OPTION, Config, Option, configure, options
from fqbench.report.document import Format
from fqbench.report.renderers import show

if TYPE_CHECKING:
    from typer.core import TyperCommand

    from fqbench.cli.verbs import Verb

GIVEN = ("run", "show")  # parameters of a verb's function that are not options
CONFIG = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", rich_help_panel=GENERAL, help="YAML file (default: ./fqbench.yaml)."),
]
WORKSPACE = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="PATH",
        rich_help_panel=GENERAL,
        help="Directory of results (default: $FQBENCH_WORKSPACE or ./fqbench_runs).",
    ),
]
TRACEBACK = Annotated[
    bool, typer.Option("--traceback", rich_help_panel=GENERAL, help="Show the traceback of an error.")
]
FORMAT = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="NAME",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="text, json, csv, markdown or latex; short: --json, --csv, --markdown, --latex. [default: text]",
    ),
]
SHORT = {form: Annotated[bool, typer.Option(f"--{form}", hidden=True)] for form in Format if form is not Format.TEXT}
HELP_ALL = Annotated[
    bool,
    typer.Option(
        "--help-all", rich_help_panel=GENERAL, is_eager=True, callback=help_all, help="Explain all options and exit."
    ),
]
BACKEND = Annotated[
    list[str] | None,
    typer.Option(
        "--backend-option",
        metavar="NAME.OPTION=VALUE",
        rich_help_panel="Backends",
        help="Option of a runtime, may be repeated; `fqbench doctor NAME` explains them.",
    ),
]


def command(verb: Verb) -> TyperCommand:
    """Return the command of a verb."""
    given = _parameters(verb)
    sections = (*verb.own, *verb.more)
    flags = [option for section in sections for option in options().values() if option.section == section]
    flags = [option for option in flags if option.name not in verb.without]
    own = {name: parameter for name, parameter in given.items() if name not in GIVEN}
    parameters = [*own.values(), *(_flag(option) for option in flags)]
    names = [option.name for option in flags]
    if "backends" in sections:
        parameters.append(_parameter(BACKEND_OPTION, BACKEND))
        names.append(BACKEND_OPTION)
    if "run" in given:
        parameters += [_parameter("config", CONFIG), _parameter("workspace", WORKSPACE)]
    if "show" in given:
        parameters += [_parameter("style", FORMAT, Format.TEXT)]
        parameters += [_parameter(f"as_{form}", annotation, False) for form, annotation in SHORT.items()]
    parameters += [_parameter("traceback", TRACEBACK, False), _parameter("all_options", HELP_ALL, False)]

    def call(**values: Any) -> None:
        arguments = {name: values[name] for name in own}
        if "run" in given:
            said = {name: values[name] for name in names}
            arguments["run"] = _run(values["config"], values["workspace"], said)
        if "show" in given:
            short = next((form for form in SHORT if values[f"as_{form}"]), values["style"])
            arguments["show"] = lambda document: show(document, short)
        verb.function(**arguments)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(
        name=verb.name,
        cls=VerbCommand,
        help=verb.function.__doc__,
        context_settings={"max_content_width": 100},
    )(call)
    made = typing.cast("VerbCommand", typer.main.get_command(app))
    made.more = verb.more
    return made


def _run(file: Path | None, workspace: Path | None, said: dict[str, Any]) -> Any:
    from fqbench.plugins import check_options
    from fqbench.run import Run
    from fqbench.terminal import TerminalReporter
    from fqbench.workspace import Workspace

    config, reporter = configure(file, **said), TerminalReporter()
    check_options(config.backends)
    return Run(config, Workspace(workspace, reporter), reporter)


def _parameters(verb: Verb) -> dict[str, inspect.Parameter]:
    """Return a verb's parameters with evaluated annotations, except those that the application passes."""
    function = verb.function
    texts = {name: text for name, text in function.__annotations__.items() if name not in {*GIVEN, "return"}}
    hints = typing.get_type_hints(
        types.SimpleNamespace(__annotations__=texts), globalns=function.__globals__, include_extras=True
    )
    found = inspect.signature(function).parameters
    return {name: parameter.replace(annotation=hints.get(name, Any)) for name, parameter in found.items()}


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(option: Option) -> inspect.Parameter:
    kind = _parsed(option)
    spelled, metavar = option.spelled, option.metavar or _metavar(option, kind)
    if kind is bool:
        spelled, metavar = f"{spelled}/{spelled.replace('--', '--no-', 1)}", None
    shown = typer.Option(
        spelled,
        help=_text(option),
        show_default=False,
        metavar=metavar,
        rich_help_panel=Config.model_fields[option.section].title,
    )
    return _parameter(option.name, Annotated[kind | None, shown])


def _text(option: Option) -> str:
    """Return the help of an option: description, choices and default."""
    default = option.info.default
    facts = [", ".join(map(str, option.choices))] if option.choices else []
    if default is not None:
        shown = ",".join(map(str, default)) if option.is_list else default
        facts.append(f"default: {shown}")
    text = option.info.description or ""
    return f"{text} [{'; '.join(facts)}]" if facts else text


def _parsed(option: Option) -> Any:
    """Return the type for the command-line parser: lists and choices are text, which pydantic checks."""
    if option.is_list or option.metavar:
        return str
    return type(option.choices[0]) if option.choices else option.type


def _metavar(option: Option, kind: Any) -> str | None:
    if option.is_list:
        return "A,B,..."
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "NAME")
