"""Map the classes of the data to a model's own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fqbench.config import read_yaml
from fqbench.errors import InputError, did_you_mean

Members = tuple[tuple[int, ...], ...]


def members_of(
    outputs: int, names: Sequence[str], classes: Sequence[str], class_map: Path | None, path: Path
) -> Members:
    """Return, for each class of the data, the model's classes that belong to it; empty if they are the same.

    Parameters
    ----------
    outputs : int
        Numbers that the model gives per image; one stands for two classes.
    names : sequence of str
        The model's own classes, where they are known.
    classes : sequence of str
        The classes of the data.
    class_map : Path or None
        YAML: class of the data to one or several of the model's classes, by name or number.
    path : Path
        The model, for messages.

    Raises
    ------
    InputError
        The numbers do not fit and nothing says how they belong together, or the mapping names what is not there.
    """
    if names and len(names) != outputs:
        names = ()
    if class_map is not None:
        return _mapped(read_yaml(class_map, "the class map", "--class-map"), outputs, names, classes, class_map)
    if outputs == 1 and len(classes) == 2:
        return ()
    folded = [name.casefold() for name in names]
    by_name = [folded.index(name.casefold()) if name.casefold() in folded else -1 for name in classes]
    if names and -1 not in by_name and len(set(by_name)) == len(classes):
        return () if by_name == list(range(outputs)) else tuple((index,) for index in by_name)
    if outputs == len(classes):
        return ()
    listed = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
    data = f"the data have {len(classes)} classes ({listed})"
    if outputs == 1:
        raise InputError(f"{path} has one output, which is for two classes, but {data}.")
    raise InputError(
        f"{path} has {outputs} outputs, but {data}; add --class-map FILE, a YAML file that maps "
        "each class of the data to the model's classes, by number or name."
    )


def _mapped(values: Any, outputs: int, names: Sequence[str], classes: Sequence[str], file: Path) -> Members:
    if not isinstance(values, Mapping):
        raise InputError(f"{file} must map each class of the data to classes of the model, as in `cat: [281, 282]`.")
    stated = {str(key): value for key, value in values.items()}
    for key in stated:
        if key not in classes:
            raise InputError(f"{file} maps {key!r}, which is not a class of the data: {did_you_mean(key, classes)}")
    missing = [name for name in classes if name not in stated]
    if missing:
        raise InputError(f"{file} does not map the class {missing[0]!r} of the data; add it.")
    members = tuple(
        tuple(_number(one, outputs, names, file) for one in (value if isinstance(value, list) else [value]))
        for value in (stated[name] for name in classes)
    )
    taken = [number for group in members for number in group]
    if len(set(taken)) != len(taken) or not all(members):
        raise InputError(f"{file} must give every class of the data classes of its own; one is used twice or missing.")
    return members


def _number(value: Any, outputs: int, names: Sequence[str], file: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < outputs:
            raise InputError(f"{file} names class {value}; the model's classes are 0 to {outputs - 1}.")
        return value
    if not names:
        raise InputError(f"{file} names the class {value!r}, and the model's names are not known; give its number.")
    if str(value) not in names:
        raise InputError(
            f"{file} names {value!r}, which is not a class of the model: {did_you_mean(str(value), names)}"
        )
    return list(names).index(str(value))
