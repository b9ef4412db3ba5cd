"""From a study file to its cells: every combination of the axes, less what is excluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from fqbench.config import Config, vary
from fqbench.errors import InputError
from fqbench.quant.recipe import read_recipe
from fqbench.study.cells import Cell, Coordinates, Phase
from fqbench.study.file import Selection, Study, Variant
from fqbench.study.methods import DECISIONS, FLOAT, METHODS, MITIGATIONS

Changes = Mapping[str, Mapping[str, Any]]
CALIBRATION = frozenset({"calib", "calib_n", "calib_by", "calib_seed", "calib_policy", "calib_batch"})
BASELINE: Changes = {"quantize": {"method": "none", "bits": 32, "act_bits": 32}}
# `--debug`: every cell in seconds; the figures then mean nothing.
TINY: Changes = {
    "train": {"epochs": 1, "batch_size": 32, "by": None, "patience": 0},
    "qat": {"epochs": 1},
    "quantize": {
        "calib_n": 32,
        "calib_by": None,
        "calib_batch": 8,
        "range_rule": "minmax",
        "rounding": "nearest",
        "bias_correction": "off",
    },
    "eval": {"by": None, "positive": None, "control": None, "replicates": 200},
    "bench": {"rounds": 5, "seconds": 0.0},
}
TINY_GROUPS = ("skin_tone",)  # few enough that the tiny samples hold images of each
TINY_DATA: Changes = {
    "data": {"name": "synthfaces", "images": 160, "test_images": 90, "size": 32},
    "preprocessing": {"size": 32},
    "train": {"by": TINY_GROUPS},
    "quantize": {"calib_by": TINY_GROUPS},
    "eval": {"by": TINY_GROUPS},
}


def cells_of(study: Study, base: Config | None = None, *, debug: bool = False) -> tuple[Cell, ...]:
    """Return the cells of a study in the order in which they are made, without doing any work.

    Parameters
    ----------
    study : Study
        The study.
    base : Config, optional
        Options that the study file leaves open.
    debug : bool
        Tiny data and short training in every cell.

    Raises
    ------
    InputError
        Options out of their range, two cells of one name, an exclusion that matches nothing, a mitigation that applies
        to no cell, or no cell at all.
    """
    shared = _varied(base or Config(), study.config)
    found = [cell for base_of in _models(study, shared) for cell in base_of.cells(study)]
    found = sorted(found, key=lambda cell: list(Phase).index(cell.phase))  # stable: the order of the axes stays
    _require_names_once(found)
    _require_applied(found, study.grid.mitigations)
    kept = _without(found, study.exclude)
    if not kept:
        raise InputError(f"the study {study.name} has no cell: everything is excluded; take an exclusion out.")
    return tuple(_tiny(cell) for cell in kept) if debug else tuple(kept)


@dataclass(frozen=True)
class _Base:
    """One data set, model, seed and backend: the baseline, and what every cell of it starts from."""

    coordinates: Coordinates
    config: Config

    def cells(self, study: Study) -> Iterator[Cell]:
        baseline = _varied(self.config, BASELINE)
        yield Cell(self.coordinates, Phase.BASELINES, baseline, baseline)
        plain = [cell for method in study.grid.methods for cell in self._of_method(study, method, baseline)]
        yield from plain
        for mitigation in study.grid.mitigations:
            yield from _mitigated(plain, mitigation, study)

    def _of_method(self, study: Study, method: Variant, baseline: Config) -> Iterator[Cell]:
        grid, config = study.grid, _changed(self.config, METHODS.get(method.name, {}), method)
        recipe = config.quantize.recipe
        if recipe is not None:
            config = _varied(config, {"quantize": {"recipe": study.folder / recipe}})
            scheme = read_recipe(study.folder / recipe)
            widths, calibrates = [int(scheme.bits)], scheme.needs_calibration
        else:
            widths, calibrates = list(grid.bits), config.quantize.method == "ptq_static"
        ways = product(grid.samplers, grid.policies) if calibrates else [("", "")]
        for bits, (sampler, policy) in product(widths, list(ways)):
            asked: dict[str, Any] = {"calib": sampler, "calib_policy": policy} if calibrates else {}
            asked |= {"bits": bits} if recipe is None else {}
            where = replace(self.coordinates, method=method.name, bits=bits, sampler=sampler, policy=policy)
            yield Cell(where, Phase.METHODS, _varied(config, {"quantize": asked}), baseline)


def _models(study: Study, shared: Config) -> Iterator[_Base]:
    grid = study.grid
    # Backends last: all models are trained before one is taken up by a second backend.
    for backend, seed, data, model in product(grid.backends, grid.seeds, grid.data, grid.models):
        named: Changes = {"data": {"name": data.name}} if "name" not in data.data else {}
        config = _changed(shared, named, data)
        named = {"model": {"name": model.name}} if not {"name", "onnx"} & model.model.keys() else {}
        config = _changed(config, named, model)
        config = _varied(config, {"train": {"seed": seed}, "quantize": {"backend": backend}})
        yield _Base(Coordinates(data.name, model.name, seed, backend, FLOAT, 32), config)


def _mitigated(cells: Sequence[Cell], mitigation: Variant, study: Study) -> Iterator[Cell]:
    changes = _merged(MITIGATIONS.get(mitigation.name, {}), mitigation.changes)
    only_calibration = changes.keys() == {"quantize"} and changes["quantize"].keys() <= CALIBRATION
    first = {"", study.grid.samplers[0]}, {"", study.grid.policies[0]}
    for cell in cells:
        where = cell.coordinates
        if where.sampler not in first[0] or where.policy not in first[1]:
            continue
        if not mitigation.where.matches(where.to_dict()) or (only_calibration and not where.sampler):
            continue
        config, decides = _varied(cell.config, changes), mitigation.name in DECISIONS
        if config == cell.config and not decides:
            continue  # it is what this cell does already
        yield replace(
            cell,
            coordinates=replace(where, mitigation=mitigation.name),
            phase=Phase.MITIGATION,
            config=config,
            decides=decides,
            constraint=DECISIONS.get(mitigation.name),
        )


def _without(cells: Sequence[Cell], exclusions: Iterable[Selection]) -> list[Cell]:
    kept = list(cells)
    for exclusion in exclusions:
        if not exclusion.text:
            raise InputError("an exclusion is empty, and would leave out every cell; name coordinates, as in bits: 2.")
        if not any(exclusion.matches(cell.coordinates.to_dict()) for cell in cells):
            raise InputError(f"the exclusion ({exclusion.text}) matches no cell; correct it, or take it out.")
        kept = [cell for cell in kept if not exclusion.matches(cell.coordinates.to_dict())]
    return kept


def _require_applied(cells: Sequence[Cell], mitigations: Iterable[Variant]) -> None:
    plain = [cell.coordinates.to_dict() for cell in cells if cell.phase is Phase.METHODS]
    for one in mitigations:
        if not any(map(one.where.matches, plain)):
            raise InputError(
                f"the mitigation {one.name} applies to no cell (where: {one.where.text or 'any'}); correct it, or take "
                "it out."
            )


def _require_names_once(cells: Sequence[Cell]) -> None:
    twice = [name for name, times in Counter(cell.name for cell in cells).items() if times > 1]
    if twice:
        raise InputError(f"two cells are named {twice[0]}; take one out, or give one value of an axis another name.")


def _tiny(cell: Cell) -> Cell:
    return replace(cell, config=_tiny_config(cell.config), baseline=_tiny_config(cell.baseline))


def _tiny_config(config: Config) -> Config:
    """Return the configuration with tiny data; a trained ONNX file keeps the data that it was trained for."""
    config = _varied(config, TINY)
    if config.model.onnx is not None:
        return config
    if config.model.weights == "imagenet":
        config = _varied(config, {"model": {"weights": "none"}})  # nothing is downloaded
    values = config.model_dump(exclude_unset=True)
    return _varied(Config.model_validate({**values, "data": {}}), TINY_DATA)


def _changed(config: Config, known: Changes, variant: Variant) -> Config:
    return _varied(config, _merged(known, variant.changes))


def _merged(first: Changes, second: Changes) -> dict[str, dict[str, Any]]:
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in (*first, *second)}


def _varied(config: Config, changes: Changes) -> Config:
    for section, options in changes.items():
        if options:
            config = vary(config, section, **options)
    return config
