"""Which output of a model stands for which attribute: ``--column Smiling=31,Young=39``, or a file of names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fqbench.config.flags import keywords
from fqbench.config.yaml_text import read_yaml
from fqbench.errors import InputError


def _columns(given: Any) -> Any:
    """Read ``Smiling=31,Young=39``; other text is the path of a file."""
    return keywords(given) if isinstance(given, str) and "=" in given else given


Columns = Annotated[
    dict[str, Annotated[int, Field(ge=0)]] | Path | None,
    Field(union_mode="left_to_right"),
    BeforeValidator(_columns),
]


def outputs_named(columns: Mapping[str, int] | Path) -> dict[str, int]:
    """Return the number of the output of each attribute.

    Parameters
    ----------
    columns : mapping or Path
        The numbers; or a file with the names of all outputs in order, one per line, or a YAML file (.yaml, .yml, .json)
        that lists them or maps names to numbers.

    Raises
    ------
    InputError
        The file cannot be read or says something else, or a name or a number is given twice.
    """
    numbers = _read(columns) if isinstance(columns, Path) else dict(columns)
    twice = [name for name, number in numbers.items() if list(numbers.values()).count(number) > 1]
    if twice:
        raise InputError(f"--column gives output {numbers[twice[0]]} to {' and '.join(twice)}; give each its own.")
    return numbers


def _read(file: Path) -> dict[str, int]:
    if file.suffix.lower() in {".yaml", ".yml", ".json"}:
        values = read_yaml(file, "the file of output names", "--column")
    else:
        try:
            values = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the file of output names {file} cannot be read ({error}); check --column.") from error
    if isinstance(values, Mapping) and all(_is_number(number) for number in values.values()):
        return {str(name): int(number) for name, number in values.items()}
    names = [str(value) for value in values] if isinstance(values, list) else []
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"{file} must name every output of the model once, one per line, or map names to numbers from 0, as in "
            "`Smiling: 31`."
        )
    return {name: number for number, name in enumerate(names)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
