"""The table of a study: one row per configuration, group and measure, as Parquet and CSV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import DataError
from fqbench.storage import whole_file

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # of the columns; raised when one is added, removed or changes its meaning
MARK = b"fqbench.study.table"
PARQUET, CSV = "study.parquet", "study.csv"
ALL = "all"  # the group of a measure of all images together


@dataclass(frozen=True)
class TableColumn:
    """A column: its type in pandas, and what it holds."""

    dtype: str
    meaning: str


COLUMNS: dict[str, TableColumn] = {
    "study": TableColumn("string", "name of the study; ends in -debug where the data were tiny"),
    "cell": TableColumn("string", "id of the cell, known before any work"),
    "phase": TableColumn("string", "baselines, methods or mitigation"),
    "data": TableColumn("string", "name of the data set's variant in the study file"),
    "model": TableColumn("string", "name of the model's variant"),
    "seed": TableColumn("int64", "training seed"),
    "backend": TableColumn("string", "runtime"),
    "method": TableColumn("string", "fp32, or the name of the method in the study file"),
    "bits": TableColumn("int64", "bits of the weights, 32 for float"),
    "act_bits": TableColumn("int64", "bits of the activations, 32 for float"),
    "sampler": TableColumn("string", "calibration sampler of the grid; empty where nothing is calibrated"),
    "policy": TableColumn("string", "group weighting of the grid; empty where nothing is calibrated"),
    "mitigation": TableColumn("string", "mitigation; empty without one"),
    "level": TableColumn("string", "native, packed, simulated or emulated: how the artifact was executed"),
    "split": TableColumn("string", "split that was evaluated; empty for measures without images"),
    "by": TableColumn("string", "sensitive features that make the groups, comma-separated"),
    "group": TableColumn("string", "group of images; all for measures of all images, and for gaps between groups"),
    "measure": TableColumn("string", "what was measured"),
    "value": TableColumn("float64", "the figure; NaN where it is undefined"),
    "low": TableColumn("float64", "lower end of its interval; NaN where there is none"),
    "high": TableColumn("float64", "upper end of its interval; NaN where there is none"),
    "confidence": TableColumn("float64", "confidence of the interval; NaN where there is none"),
    "n": TableColumn("int64", "images (or rounds) that it was computed from; 0 where that means nothing"),
    "p_value": TableColumn("float64", "of a change: p-value of no change, corrected over groups; NaN elsewhere"),
    "verdict": TableColumn("string", "of a change: equivalent, different or undecided; empty elsewhere"),
    "timed": TableColumn("bool", "measured by a clock, or of a process: differs from run to run"),
    "artifact": TableColumn("string", "id of the artifact"),
    "predictions": TableColumn("string", "id of its predictions"),
    "reference": TableColumn("string", "id of the predictions of FP32 that changes refer to; empty for FP32 itself"),
    "source": TableColumn("string", "id of the entry that the figure was read from"),
    "notice": TableColumn("string", "what has to be said of these data"),
}
KEY = ("cell", "group", "measure")


def frame_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with all columns of their types, in the order given."""
    import pandas as pd

    return typed(pd.DataFrame(list(rows), columns=list(COLUMNS)))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns have their types."""
    return table.astype({name: column.dtype for name, column in COLUMNS.items()})


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write a table as Parquet, with the version of its columns, and as CSV; each file is written whole."""
    write_parquet(table, folder / PARQUET)
    with whole_file(folder / CSV) as file:
        file.write(table.to_csv(index=False, lineterminator="\n").encode())


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write one Parquet file; the same table gives the same bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), MARK: str(VERSION).encode()})
    content = io.BytesIO()
    parquet.write_table(arrow, content)
    with whole_file(path) as file:
        file.write(content.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Raises
    ------
    DataError
        It is not a study's table, or one of another version of fqbench.
    """
    from pyarrow import ArrowInvalid, parquet

    try:
        arrow = parquet.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0][:100]}).") from error
    version = (arrow.schema.metadata or {}).get(MARK)
    if version is None:
        raise DataError(f"{path} is not the table of a study; take {PARQUET} of `fqbench study run`.")
    if version.decode() != str(VERSION) or tuple(arrow.column_names) != tuple(COLUMNS):
        raise DataError(
            f"{path} is a study's table of another version of fqbench (columns {version.decode()}, here {VERSION}); "
            "make it again with `fqbench study run`."
        )
    return typed(arrow.to_pandas())
