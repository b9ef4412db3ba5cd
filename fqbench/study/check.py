"""Check the cells of a study before any work: models that exist, schemes that a runtime executes, known plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from fqbench import plugins
from fqbench.errors import FqbenchError, InputError
from fqbench.models.lookup import classifier
from fqbench.models.objectives import objective
from fqbench.models.program import is_program
from fqbench.plugins import require_support
from fqbench.run import Run
from fqbench.stages.quantize import configured_scheme
from fqbench.stages.read import check_data
from fqbench.study.cells import Cell
from fqbench.study.methods import FLOAT


def check_cells(run: Run, cells: Sequence[Cell]) -> None:
    """Check everything about cells that can be checked without data.

    Raises
    ------
    InputError
        An unknown data set, model, backend, sampler, policy, rule or objective; a scheme that its backend executes in
        no way; a method that trains, or several seeds, for a model that comes as ONNX. The message names the cell.
    UnavailableError
        torch is not installed, and a model has to be trained.
    """
    checked = set()
    for cell in cells:
        for key, check in _checks(run, cell):
            if key in checked:
                continue
            checked.add(key)
            try:
                check()
            except FqbenchError as error:
                raise type(error)(f"the cell {cell.name}: {error}") from error


def _checks(run: Run, cell: Cell) -> Iterator[tuple[object, Callable[[], object]]]:
    config, where = cell.config, cell.coordinates
    yield ("data", config.data.model_dump_json()), lambda: check_data(config.data, files=False)
    yield ("model", config.model.model_dump_json()), lambda: _model(run, cell)
    yield ("seeds", where.model, where.seed), lambda: _seed(cell)
    yield ("train", config.train.objective), lambda: objective(config.train.objective)
    yield ("backends", str(config.backends)), lambda: plugins.check_options(config.backends)
    if where.sampler:
        yield ("sampler", config.quantize.calib), lambda: plugins.sampler(config.quantize.calib)
    scheme = config.quantize.model_dump_json(exclude={"calib", "calib_n", "calib_seed", "calib_by"})
    yield ("scheme", scheme), lambda: _scheme(run, cell)


def _model(run: Run, cell: Cell) -> None:
    model = cell.config.model
    path = model.onnx
    if path is not None and not path.is_file():
        raise InputError(f"no ONNX file {path}; check model.onnx.")
    if path is None and not is_program(model.name):
        classifier(run, model.name, model.args)


def _seed(cell: Cell) -> None:
    model = cell.config.model
    if (model.onnx is not None or is_program(model.name)) and cell.coordinates.seed != 0:
        raise InputError(f"{cell.coordinates.model} comes trained, so that a seed changes nothing; exclude its seeds.")


def _scheme(run: Run, cell: Cell) -> None:
    where, model = cell.coordinates, cell.config.model
    scheme, backend = configured_scheme(replace(run, config=cell.config)), plugins.backend(where.backend)
    try:
        require_support(backend, scheme)
        if scheme.method == "qat" and (model.onnx is not None or is_program(model.name)):
            raise InputError(f"{where.model} comes trained as a file, and cannot be trained with fake quantization.")
    except InputError as error:
        if where.method == FLOAT:
            raise
        hint = f"{{backend: {where.backend}, method: {where.method}, bits: {where.bits}}}"
        raise InputError(f"{error} Or exclude it: - {hint}") from error
