"""Tables of predictions that other programs made: which class or which logits each image has."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.probabilities import are_independent, log_odds, logarithms, whole_of
from fqbench.data.arrow import as_text, plain_columns
from fqbench.data.labels import as_number
from fqbench.data.listing import some
from fqbench.data.text_table import read_text_table
from fqbench.errors import DataError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

READING = 3  # raised when the same file would be read in another way
FORMATS = frozenset({".csv", ".tsv", ".parquet", ".txt", ""})
ID, PREDICTION, LOGITS = "sample_id", "prediction", "logits"


@dataclass(frozen=True)
class PredictionTable:
    """What a table says.

    Attributes
    ----------
    file : Path
        The table.
    ids : list of str
        The image of each row, each once.
    predictions : Series of str, or None
        The class of each row, as it is written; None where the table has no such column.
    logits : ndarray of float32, shape (rows, outputs), or None
        Likewise; finite. Probabilities are turned into logits: those that sum to 1, or to 100, and with attributes
        those from 0 to 1.
    """

    file: Path
    ids: list[str]
    predictions: pd.Series[str] | None
    logits: NDArray[np.float32] | None

    def rows_of(self, expected: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each image.

        Raises
        ------
        DataError
            The table is about other images.
        """
        import pandas as pd

        given, wanted = pd.Index(self.ids), pd.Index(expected)
        rows = np.asarray(given.get_indexer(wanted), dtype=np.int64)
        if (rows < 0).any() or len(given) > len(wanted):
            lacking, foreign = sorted(wanted.difference(given)), sorted(given.difference(wanted))
            if lacking and foreign:
                raise DataError(
                    f"{self.file} lacks {len(lacking)} image(s), {some(lacking)}, and names {len(foreign)} that are "
                    f"not in this split, {some(foreign)}; write each {ID} as samples.parquet of the data set has it "
                    "(`fqbench list samples`)."
                )
            what = "lacks" if lacking else "holds images that are not in this split:"
            names = lacking or foreign
            raise DataError(
                f"{self.file} {what} {len(names)} image(s), {some(names)}; predict exactly the images of the split."
            )
        return rows

    def classes_of(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return the index of the class of each row, whether the table has names or, as whole numbers, indices.

        A number that is the name of a class is that class.

        Raises
        ------
        DataError
            A row has no prediction, or one that is not a class.
        """
        assert self.predictions is not None  # noqa: S101  # the caller has looked
        values = self.predictions.unique().tolist()
        if "" in values:
            empty = [name for name, value in zip(self.ids, self.predictions, strict=True) if not value]
            raise DataError(f"{self.file} has no prediction for {len(empty)} image(s) ({some(empty)}); fill it in.")
        places = {name: index for index, name in enumerate(classes)}
        if not places.keys() >= set(values):
            numbers = {value: as_number(value) for value in values}
            wrong = [value for value, number in numbers.items() if number not in range(len(classes))]
            if wrong:
                unknown = [value for value in wrong if value not in places] or wrong
                raise DataError(
                    f"{self.file} predicts {unknown[0]!r}, which is not a class: {did_you_mean(unknown[0], classes)}"
                )
            places = {value: int(number) for value, number in numbers.items() if number is not None}
        return np.asarray(self.predictions.map(places), dtype=np.int64)


def read_answers(file: Path, attribute: str | None = None) -> PredictionTable:
    """Read a table with the columns ``sample_id`` and ``prediction`` or ``logits``.

    Parameters
    ----------
    file : Path
        CSV, TSV or Parquet. In text, logits are a list in brackets.
    attribute : str, optional
        The column of the predictions, where several attributes are predicted.

    Raises
    ------
    InputError
        There is no such file, or it has other columns.
    DataError
        It is damaged, an image occurs twice or not at all, or logits are missing or not finite.
    """
    if not file.is_file():
        raise InputError(f"no predictions file {file}; check --predictions.")
    if file.suffix.lower() not in FORMATS:
        raise InputError(f"{file} is not a supported table; give --predictions a .csv, .tsv or .parquet file.")
    column = attribute or PREDICTION
    columns = _parquet(file, column) if file.suffix.lower() == ".parquet" else _text(file)
    if ID not in columns or not {column, LOGITS} & columns.keys():
        raise InputError(
            f"{file} needs the columns {ID} and {column} (or {LOGITS}), and has: {', '.join(columns) or 'none'}."
        )
    ids: list[str] = columns[ID].tolist()
    if "" in ids:
        raise DataError(f"{file} has {ids.count('')} row(s) without a {ID}; fill it in, or remove them.")
    if len(set(ids)) < len(ids):
        twice = columns[ID][columns[ID].duplicated()].iloc[0]
        raise DataError(f"{file} has two predictions for {twice}; give one row per image.")
    logits = _logits(file, ids, columns[LOGITS].tolist(), attribute) if LOGITS in columns else None
    return PredictionTable(file, ids, columns.get(column), logits)


def _text(file: Path) -> dict[str, pd.Series[Any]]:
    tabs = file.suffix.lower() == ".tsv"
    table = read_text_table(file, "\t" if tabs else ",", mend="save it again, or as Parquet")
    return {str(name): table[name] for name in table.columns}


def _parquet(file: Path, column: str) -> dict[str, pd.Series[Any]]:
    import pandas as pd
    from pyarrow import ArrowException, parquet

    try:
        whole = parquet.ParquetFile(file)
        names = [name for name in (ID, column, LOGITS) if name in whole.schema_arrow.names]
        table: pa.Table = whole.read(columns=names)
    except (OSError, ArrowException) as error:
        raise DataError(f"{file} is not Parquet ({str(error).splitlines()[0][:100]}); save it again.") from error
    if len(names) < 2:
        return {name: pd.Series([], dtype=object) for name in whole.schema_arrow.names}
    plain = plain_columns(table.schema)
    wrong = [name for name in names if name != LOGITS and name not in plain]
    if wrong:
        kind = table.schema.field(wrong[0]).type
        raise InputError(f"{file}: the column {wrong[0]} has the type {kind}; text or whole numbers are needed.")
    return {name: as_text(table[name]) if name in plain else table[name].to_pandas() for name in names}


def _logits(file: Path, ids: Sequence[str], values: Sequence[Any], attribute: str | None) -> NDArray[np.float32]:
    rows = [_numbers(value) for value in values]
    first, known = next(((name, row) for name, row in zip(ids, rows, strict=True) if row), ("", []))
    uneven = next((name for name, row in zip(ids, rows, strict=True) if row and len(row) != len(known)), None)
    if uneven is not None:
        raise DataError(f"{file} has {len(known)} logits for {first}, but another number of them for {uneven}.")
    width = len(known)
    logits = np.array([row or [math.nan] * width for row in rows], dtype=np.float64).reshape(len(rows), width)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1) | (width == 0))
    if len(wrong):
        raise DataError(
            f"{file} has no list of finite logits for {ids[wrong[0]]}; write one number per output, as in [0.5, 2]."
        )
    return _of_probabilities(logits, independent=attribute is not None).astype(np.float32)


def _of_probabilities(values: NDArray[np.float64], *, independent: bool) -> NDArray[np.float64]:
    """Return logits: the values as they are, unless all of them are probabilities."""
    if independent:
        return log_odds(values) if are_independent(values) else values
    whole = whole_of(values)
    return values if whole is None else logarithms(values / whole)


def _numbers(value: Any) -> list[float] | None:
    """Return a row of logits, from a list or from its text; None where it is something else."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
        return [float(one) for one in given]
    except (ValueError, TypeError):
        return None
