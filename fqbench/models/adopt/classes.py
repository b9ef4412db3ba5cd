"""Map the classes or attributes of the data to the outputs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fqbench.config import read_yaml
from fqbench.contracts.task import PredictionTask
from fqbench.errors import InputError, did_you_mean

Members = tuple[tuple[int, ...], ...]
SHOWN = 8


@dataclass(frozen=True)
class Meaning:
    """What the data have, and what the user said about the outputs of a model.

    Attributes
    ----------
    classes : tuple of str
        Names of the data's classes, or of its attributes.
    task : PredictionTask
        Which of the two.
    class_map : Path or None
        Which of the model's classes belong to which class of the data.
    columns : mapping of str to int, or None
        The output of each attribute, and perhaps of others.
    label : str
        With two classes, the column of the data that they are read from: ``columns`` may name its output.
    """

    classes: tuple[str, ...]
    task: PredictionTask = PredictionTask.CLASSES
    class_map: Path | None = None
    columns: Mapping[str, int] | None = None
    label: str = ""


def columns_of(outputs: int, names: Sequence[str], meaning: Meaning, path: Path) -> tuple[int, ...]:
    """Return the output of each attribute; with two classes and ``--column``, the one that tells them apart.

    Parameters
    ----------
    outputs : int
        Numbers that the model gives per image.
    names : sequence of str
        The model's own names of them, where they are known.
    meaning : Meaning
        What the data have, and what the user said.
    path : Path
        The model, for messages.

    Raises
    ------
    InputError
        Nothing says which output an attribute has, or there is no such output.
    """
    if meaning.task is PredictionTask.CLASSES:
        return () if meaning.columns is None else (_column(meaning, meaning.label, outputs, path),)
    if meaning.class_map is not None:
        raise InputError(f"--class-map {meaning.class_map} maps classes; for several attributes give --column.")
    if meaning.columns is not None:
        return tuple(_column(meaning, name, outputs, path) for name in meaning.classes)
    folded = [name.casefold() for name in names] if len(names) == outputs else []
    if folded and all(folded.count(name.casefold()) == 1 for name in meaning.classes):
        return tuple(folded.index(name.casefold()) for name in meaning.classes)
    if outputs == len(meaning.classes):
        return tuple(range(outputs))
    listed = ", ".join(meaning.classes[:SHOWN]) + (", …" if len(meaning.classes) > SHOWN else "")
    raise InputError(
        f"{path} has {outputs} output(s), but the data have {len(meaning.classes)} attributes ({listed}); add "
        f"--column {meaning.classes[0]}=N,{meaning.classes[1]}=N with their numbers from 0, or --column FILE with the "
        "names of all outputs in order."
    )


def _column(meaning: Meaning, name: str, outputs: int, path: Path) -> int:
    columns = meaning.columns or {}
    if meaning.task is PredictionTask.CLASSES and len(meaning.classes) != 2:
        raise InputError(
            f"--column names one output per attribute, but {name!r} has {len(meaning.classes)} classes; give "
            "--class-map instead."
        )
    if name not in columns:
        raise InputError(f"--column does not say which output of {path} is {name!r}: {did_you_mean(name, columns)}")
    if columns[name] >= outputs:
        raise InputError(
            f"--column {name}={columns[name]}: {path} has the outputs 0 to {outputs - 1} only; they are "
            "numbered from 0."
        )
    return columns[name]


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
