"""The flat names of options: how the command line and `configure` spell the fields of a configuration."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SEEDS = 2**32  # scikit-learn's random states, and so fairlearn's, are below


@dataclass(frozen=True)
class Flag:
    """Mark a field whose flag has another name, or another syntax than its type.

    Attributes
    ----------
    name : str or None
        Flat name with underscores; None for an option that only YAML and the library have.
    metavar : str
        Set for a value that the command line passes on as one piece of text, whatever its type: ``"N|HxW"``.
    """

    name: str | None
    metavar: str = ""


@dataclass(frozen=True)
class Option:
    """One option of a configuration that has a flag.

    Attributes
    ----------
    name : str
        Flat name with underscores: ``calib_n``.
    section, field : str
        Where it is in a `Config`.
    info : FieldInfo
        pydantic's description of the field: type, default, help text.
    metavar : str
        As in `Flag`.
    """

    name: str
    section: str
    field: str
    info: FieldInfo
    metavar: str = ""

    @property
    def spelled(self) -> str:
        """As on the command line: ``--calib-n``."""
        return "--" + self.name.replace("_", "-")

    @property
    def type(self) -> Any:
        """The field's type without ``None``."""
        return next(kind for kind in _members(self.info.annotation) if kind is not type(None))

    @property
    def is_list(self) -> bool:
        """Whether it takes several values, comma-separated on the command line."""
        return typing.get_origin(self.type) is tuple and not self.metavar

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a ``Literal``, alone or in a list; empty for other types."""
        kind = typing.get_args(self.type)[0] if self.is_list else self.type
        return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def fields(section: str) -> Mapping[str, FieldInfo]:
    """Return the fields of a section; empty if there is no such section."""
    from fqbench.config.sections import Config

    part = Config.model_fields.get(section)
    return getattr(part.annotation, "model_fields", {}) if part is not None else {}


@cache
def options() -> Mapping[str, Option]:
    """Return every option that has a flag, by flat name, in the order of the sections."""
    from fqbench.config.sections import Config

    found: dict[str, Option] = {}
    for section in Config.model_fields:
        for field, info in fields(section).items():
            mark = next((mark for mark in info.metadata if isinstance(mark, Flag)), Flag(field))
            if mark.name is None:
                continue
            if mark.name in found:
                raise TypeError(f"{section}.{field} and {found[mark.name].section} both claim --{mark.name}")
            found[mark.name] = Option(mark.name, section, field, info, mark.metavar)
    return found


def keywords(given: Any) -> Any:
    """Read ``width=16,name=small`` or a JSON object; values of the first form are parsed as JSON if possible.

    Raises
    ------
    ValueError
        It is neither.
    """
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("{"):
        return json.loads(given)
    parts = [part.partition("=") for part in given.split(",") if part.strip()]
    if not all(sign and key.strip() for key, sign, _value in parts):
        raise ValueError("a JSON object or name=value pairs, comma-separated, are needed")
    return {key.strip(): _literal(value.strip()) for key, _sign, value in parts}


def comma_separated(given: Any) -> Any:
    """Join a list of names, as YAML has it, to ``A,B``; anything else is returned unchanged."""
    return ",".join(map(str, given)) if isinstance(given, list | tuple) else given


def several(given: Any) -> Any:
    """Take one number for a list of one."""
    return (given,) if isinstance(given, int) else given


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _members(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    return typing.get_args(annotation) if origin in {typing.Union, types.UnionType} else (annotation,)
