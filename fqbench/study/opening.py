"""Open a study: its file and its cells, checked; and the table of the cells that are done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    cells = cells_of(study, run.config, debug=debug)
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
