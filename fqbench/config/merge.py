"""From flags, a YAML file and defaults to one validated configuration, and variations of it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fqbench.config.flags import fields, options
from fqbench.config.sections import Config
from fqbench.config.yaml_text import parse_yaml, read_yaml
from fqbench.errors import InputError, did_you_mean

DEFAULT_FILE = Path("fqbench.yaml")
BACKEND_OPTION = "backend_option"  # may be given several times; it fills the section `backends`


def configure(file: Path | None = None, **flags: Any) -> Config:
    """Merge flags over a YAML file over the defaults.

    Parameters
    ----------
    file : Path, optional
        YAML with the sections of `Config`; ``./fqbench.yaml`` if it exists and none is given.
    **flags
        Flat names as on the command line (``backend="ort"``, ``calib_n=256``); None means "not given".

    Raises
    ------
    InputError
        A file that is missing or not YAML, an unknown name, or a value out of its range.
    """
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE
    values = _read(file) if file is not None else {}
    given: set[tuple[str, str]] = set()
    for flag, value in flags.items():
        if value is None:
            continue
        if flag == BACKEND_OPTION:
            _set_backend_options(values.setdefault("backends", {}), value)
            continue
        if flag not in options():
            raise InputError(f"unknown option {flag!r}: {did_you_mean(flag, options())}")
        option = options()[flag]
        given.add((option.section, option.field))
        values.setdefault(option.section, {})[option.field] = _parted(value) if option.is_list else value
    data = values.get("data", {})
    if data.get("table") is not None:  # what else would it be for
        data.setdefault("name", "table")
    return _validated(values, file, given)


def _set_backend_options(backends: dict[str, dict[str, Any]], texts: Sequence[str]) -> None:
    """Add options given as ``name.option=value``; the backend validates them later."""
    for text in texts:
        left, equals, value = text.partition("=")
        name, dot, option = left.partition(".")
        if not (equals and dot and name and option):
            raise InputError(f"--backend-option takes NAME.OPTION=VALUE, not {text!r}.")
        try:
            parsed = parse_yaml(value)
        except ValueError as error:
            raise InputError(f"--backend-option {left}: {value!r} is not a YAML value.") from error
        backends.setdefault(name, {})[option.replace("-", "_")] = parsed


def vary(config: Config, section: str, **changes: Any) -> Config:
    """Return the configuration with other options in one section, validated again as a whole.

    What was not set stays unset: ``model_fields_set`` of every section survives.

    Parameters
    ----------
    config : Config
        Not changed.
    section : str
        Name of a section: ``"quantize"``.
    **changes
        Names as in the YAML file: ``bits=4, calib_n=64``.

    Raises
    ------
    InputError
        An unknown section or option, or a value out of its range; the message names the flag.
    """
    values = config.model_dump(exclude_unset=True)
    values[section] = {**values.get(section, {}), **changes}
    return _validated(values)


def whole_numbers(flag: str, text: str) -> tuple[int, ...]:
    """Read ``"0,1,2"``; an empty text is an empty list.

    Raises
    ------
    InputError
        A part is not a whole number from 0 on, or occurs twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) != len(parts):
        raise InputError(f"{flag} takes different whole numbers, comma-separated, as in 0,1,2; not {text!r}.")
    return tuple(int(part) for part in parts)


def names_among(flag: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read ``"a,b"``, names that must be among the known ones; they come back in the order of these.

    Raises
    ------
    InputError
        A name is unknown, or none is given.
    """
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise InputError(f"{flag} does not know {unknown[0] if unknown else text!r}: {did_you_mean(text, known)}")
    return tuple(name for name in known if name in asked)


def names(text: str | None) -> tuple[str, ...]:
    """Read ``"A, B"``; none where it is not given."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _parted(value: Any) -> Any:
    """Split ``"a, b"`` at its commas; one number stays one, and anything else is a list already."""
    if isinstance(value, str):
        return names(value)
    return value if isinstance(value, int) else tuple(value)


def _read(file: Path) -> dict[str, Any]:
    values = read_yaml(file, "the configuration", "--config")
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        sections = ", ".join(Config.model_fields)
        raise InputError(f"the configuration {file} must hold sections of options; the sections are: {sections}.")
    return values


def _validated(values: Any, file: Path | None = None, given: Container[tuple[str, str]] = ()) -> Config:
    """Build the configuration; ``given`` are the fields set by flags, so that errors name the right origin."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        section, field = (*(str(part) for part in problem["loc"]), "")[:2]
        origin = f" in {file}" if file is not None and (section, field) not in given else ""
        raise InputError(_sentence(problem, section, field, origin)) from error


def _sentence(problem: Any, section: str, field: str, origin: str) -> str:
    dotted = f"{section}.{field}".rstrip(".")
    if problem["type"] == "extra_forbidden":
        known = fields(section) if field else Config.model_fields
        return f"unknown option {dotted!r}{origin}: {did_you_mean(field or section, known)}"
    flags = {(option.section, option.field): option.spelled for option in options().values()}
    name = flags.get((section, field), dotted)
    return f"{name}{origin}: {problem['msg']}, not {problem['input']!r}; see --help-all for its values."
