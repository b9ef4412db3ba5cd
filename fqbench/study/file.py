"""A study file: the axes of a grid, what is left out of it, and the options that all cells share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fqbench.config import Config, read_mapping
from fqbench.errors import InputError, did_you_mean
from fqbench.study.methods import METHODS, MITIGATIONS

SECTIONS = tuple(Config.model_fields)
COORDINATES = ("data", "model", "seed", "backend", "method", "bits", "sampler", "policy", "mitigation")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _as_variant(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Selection(_Part):
    """Cells by their coordinates: a cell is meant if each coordinate that is given has one of the values."""

    data: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    model: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    seed: Annotated[tuple[int, ...], BeforeValidator(_as_list)] = ()
    backend: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    method: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    bits: Annotated[tuple[int, ...], BeforeValidator(_as_list)] = ()
    sampler: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    policy: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    mitigation: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()

    def matches(self, coordinates: Mapping[str, Any]) -> bool:
        """Whether these coordinates are meant."""
        wanted = self.model_dump(exclude_defaults=True)
        return all(coordinates[name] in values for name, values in wanted.items())

    @property
    def text(self) -> str:
        """As in the file."""
        said = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{name}: {values[0] if len(values) == 1 else list(values)}" for name, values in said.items())


class Variant(_Part):
    """One value of an axis: its name in the table, and what it changes in the configuration.

    Attributes
    ----------
    name : str
        Unique on its axis.
    data, model, preprocessing, train, qat, quantize, eval, bench : dict
        Options in the sections of a configuration.
    where : Selection
        Of a mitigation: the cells of phase 2 that it is applied to; all by default.
    """

    name: str = Field(min_length=1)
    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    qat: dict[str, Any] = Field(default_factory=dict)
    quantize: dict[str, Any] = Field(default_factory=dict)
    eval: dict[str, Any] = Field(default_factory=dict)
    bench: dict[str, Any] = Field(default_factory=dict)
    where: Selection = Selection()

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """What it changes, by section."""
        said = {section: getattr(self, section, None) for section in SECTIONS}
        return {section: dict(options) for section, options in said.items() if options}


Variants = tuple[Annotated[Variant, BeforeValidator(_as_variant)], ...]


class Grid(_Part):
    """The axes; every combination is a cell.

    Attributes
    ----------
    models, data, methods : tuple of Variant
        What is trained, on what, and how it is quantized.
    seeds : tuple of int
        Training seeds.
    bits : tuple of int
        Bits of the weights; a method that brings a recipe does not take them.
    samplers, policies : tuple of str
        Of the calibration; methods that calibrate nothing do not take them.
    backends : tuple of str
        Runtimes.
    mitigations : tuple of Variant
        Each is applied to the cells of its ``where``, with the first sampler and the first policy.
    """

    models: Variants
    data: Variants = (Variant(name="synthfaces"),)
    seeds: tuple[int, ...] = (0,)
    backends: tuple[str, ...] = ("ort",)
    methods: Variants = (Variant(name="ptq_static"),)
    bits: tuple[int, ...] = (8,)
    samplers: tuple[str, ...] = ("balanced",)
    policies: tuple[str, ...] = ("as-sampled",)
    mitigations: Variants = ()


class Study(_Part):
    """A study as it is written down.

    Attributes
    ----------
    name : str
        In the table and in the ids of results.
    grid : Grid
        The axes.
    exclude : tuple of Selection
        Cells that are left out.
    config : dict
        Options that all cells share, in the sections of a configuration.
    latency : bool
        Whether latencies are measured.
    folder : Path
        Where the file is: paths of recipes are relative to it.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    grid: Grid
    exclude: tuple[Selection, ...] = ()
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    latency: bool = True
    folder: Path = Path()


def read_study(file: Path) -> Study:
    """Read a study file.

    Raises
    ------
    InputError
        It cannot be read, a field or section is not known, an axis is empty, or a method or mitigation is neither known
        nor described.
    """
    otherwise = "must hold name, grid, exclude and config; see docs/study.md."
    values = read_mapping(file, "the study", "its path", otherwise)
    try:
        study = Study.model_validate({**values, "folder": file.parent})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        hint = _hint(problem) if problem["type"] == "extra_forbidden" else ""
        raise InputError(f"the study {file}: {place}: {_said(problem)}. {hint}".strip()) from error
    _check_axes(study, file)
    return study


def _said(problem: Any) -> str:
    """Return what is wrong in YAML's words, with the value that was given."""
    said = str(problem["msg"])
    for ours, theirs in (("a list, as in [a, b]", "a valid tuple"), ("a mapping, as in {a: b}", "a valid dictionary")):
        said = said.replace(theirs, ours)
    named = problem["type"] in {"extra_forbidden", "missing"} or isinstance(problem["input"], dict | list)
    return said if named else f"{said}, not {problem['input']!r}"


def _hint(problem: Any) -> str:
    places: dict[str, type[BaseModel]] = {"grid": Grid, "exclude": Selection, "where": Selection}
    kind: type[BaseModel] = Study if len(problem["loc"]) == 1 else Variant
    for part in problem["loc"][:-1]:
        kind = places.get(str(part), kind)
    kind = Variant if len(problem["loc"]) > 3 and "where" not in problem["loc"] else kind
    return did_you_mean(str(problem["loc"][-1]), kind.model_fields)


def _check_axes(study: Study, file: Path) -> None:
    for axis in Grid.model_fields:
        if axis != "mitigations" and not getattr(study.grid, axis):
            raise InputError(f"the study {file}: grid.{axis} is empty, so there is no cell; name at least one value.")
    for section in study.config:
        if section not in SECTIONS:
            raise InputError(f"the study {file}: config.{section}: no such section: {did_you_mean(section, SECTIONS)}")
    for axis, known in (("methods", METHODS), ("mitigations", MITIGATIONS)):
        for one in getattr(study.grid, axis):
            if one.name not in known and not one.changes:
                raise InputError(
                    f"the study {file}: grid.{axis}: {one.name!r} is neither known nor says what it changes: "
                    f"{did_you_mean(one.name, known)}"
                )
