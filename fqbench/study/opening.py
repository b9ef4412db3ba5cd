"""Open a study: its file and its cells, checked; and the table of the cells that are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import DataError, InputError
from fqbench.run import Run
from fqbench.study.cells import Cell
from fqbench.study.check import check_cells
from fqbench.study.file import Study, read_study
from fqbench.study.grid import cells_of
from fqbench.study.runner import finished_cells, study_status, write_study
from fqbench.study.table import PARQUET, read_table
from fqbench.workspace import Entry
from fqbench.workspace.kinds import StudyFacts

if TYPE_CHECKING:
    import pandas as pd


def open_study(
    run: Run, file: Path, *, root: Path | None = None, debug: bool = False, check: bool = True
) -> tuple[Study, tuple[Cell, ...]]:
    """Read a study file and return it with its cells.

    Parameters
    ----------
    run : Run
        Its configuration fills what the study file leaves open.
    file : Path
        The study file.
    root : Path, optional
        Directory of the data set, in place of the study's.
    debug : bool
        Tiny data and short training.
    check : bool
        Whether models, schemes and plug-ins are checked.

    Raises
    ------
    InputError
        The file is wrong, or a cell cannot be made; nothing has been run.
    """
    study = read_study(file)
    if root is not None:
        config = {**study.config, "data": {**study.config.get("data", {}), "root": root}}
        study = study.model_copy(update={"config": config})
    try:
        cells = cells_of(study, run.config, debug=debug)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if check:
        check_cells(run, cells)
    return study, cells


def open_table(
    run: Run, study: Study, cells: tuple[Cell, ...], *, debug: bool = False
) -> tuple[Entry[StudyFacts], pd.DataFrame]:
    """Return the table of the cells that are done, with its entry.

    Raises
    ------
    DataError
        None is done.
    """
    failed = {one.cell.name: one.reason for one in study_status(run, study, cells).cells if one.state == "failed"}
    entry = write_study(run, study, list(finished_cells(run, cells).values()), failed, debug=debug)
    return entry, read_table(entry.file(PARQUET))


def table_at(file: Path) -> pd.DataFrame:
    """Return a study's table that was made anywhere.

    Raises
    ------
    InputError
        There is no such file.
    DataError
        It is empty, or that of another version.
    """
    if not file.is_file():
        raise InputError(f"no table {file}; check --table.")
    found = read_table(file)
    if not len(found):
        raise DataError(f"{file} has no rows; take {PARQUET} of a study with finished cells.")
    return found


@dataclass(frozen=True)
class Reported:
    """A table with the study's name, its Parquet file, and the reasons of failed cells."""

    table: pd.DataFrame
    name: str
    file: Path
    failed: Mapping[str, str]


def reported(run: Run, file: Path | None, table: Path | None, *, root: Path | None, debug: bool) -> Reported:
    """Return the table of a study file's finished cells, or one that was made anywhere.

    Raises
    ------
    InputError
        Neither or both are given, or there is no such file.
    DataError
        No cell is done, or the table is empty or that of another version.
    """
    if (file is None) == (table is None):
        raise InputError("give a study file, or --table with a study.parquet; one of both.")
    if table is not None:
        found = table_at(table)
        return Reported(found, str(found["study"].iloc[0]), table, {})
    assert file is not None  # noqa: S101  # the other case has returned
    study, cells = open_study(run, file, root=root, debug=debug, check=False)
    entry, found = open_table(run, study, cells, debug=debug)
    return Reported(found, entry.facts.study, entry.file(PARQUET), entry.facts.failed)
