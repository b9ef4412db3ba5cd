"""The command line's options, made from the configuration's own fields, so that the two cannot drift apart."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fqbench.config import FLAGS, LISTS, Config, configure
from fqbench.errors import InputError
from fqbench.reporter import Reporter
from fqbench.run import Run
from fqbench.workspace import Workspace

CONFIG = Annotated[Path | None, typer.Option("--config", help="YAML with options (default: ./fqbench.yaml).")]
WORKSPACE = Annotated[
    Path | None, typer.Option("--workspace", help="Where results live (default: $FQBENCH_WORKSPACE or ./fqbench_runs).")
]
TRACEBACK = Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")]


def asks(*sections: str, reporter: Callable[[], Reporter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options of these sections of the configuration, and call it with the `Run` they make.

    Parameters
    ----------
    *sections : str
        Sections of `Config` whose flags the verb takes.
    reporter : callable
        Makes the reporter of the run.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter for name, parameter in inspect.signature(verb, eval_str=True).parameters.items() if name != "run"
        ]
        flags = [name for name, (section, _field) in FLAGS.items() if section in sections]

        @functools.wraps(verb)
        def call(config: Path | None, workspace: Path | None, traceback: bool, **given: Any) -> None:  # noqa: ARG001
            merged = configure(config, **{name: given.pop(name) for name in flags})
            told = reporter()
            verb(run=Run(merged, Workspace(workspace, told), told), **given)

        common = [
            _parameter("config", CONFIG),
            _parameter("workspace", WORKSPACE),
            _parameter("traceback", TRACEBACK, False),
        ]
        signature = inspect.Signature([*own, *(_flag(name) for name in flags), *common])
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return call

    return decorate


def whole_numbers(flag: str, text: str) -> list[int]:
    """Return the numbers of ``"0,1,2"``.

    Raises
    ------
    InputError
        It holds something else.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{flag} takes whole numbers with commas between them, not {text!r}.") from error


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(name: str) -> inspect.Parameter:
    section, field = FLAGS[name]
    model = typing.get_type_hints(Config)[section]
    info = model.model_fields[field]
    text = info.description or ""
    if info.default is not None and "(default" not in text:
        text += f" [default: {info.default}]"
    spelled = "--" + name.replace("_", "-")
    metavar: str | None = _metavar(name, info.annotation)
    if _plain(name, info.annotation) is bool:
        spelled, metavar = f"{spelled}/{spelled.replace('--', '--no-', 1)}", None
    option = typer.Option(spelled, help=text, show_default=False, metavar=metavar)
    return _parameter(name, Annotated[_plain(name, info.annotation) | None, option])


def _plain(name: str, annotation: Any) -> Any:
    """Return the type that the command line parses: lists and choices come as text, and pydantic checks them."""
    if name in LISTS:
        return str
    members = [kind for kind in _members(annotation) if kind is not type(None)]
    if typing.get_origin(members[0]) is typing.Literal:
        return type(typing.get_args(members[0])[0])
    return members[0]


def _metavar(name: str, annotation: Any) -> str:
    if name in LISTS:
        return "A,B,..."
    plain = _plain(name, annotation)
    return {int: "N", float: "X", Path: "PATH"}.get(plain, "NAME")


def _members(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    return typing.get_args(annotation) if origin in {typing.Union, types.UnionType} else (annotation,)
