"""Tables as text: CSV and TSV, every cell a string without blanks around it, the header as it is written."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import DataError, InputError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
SUFFIX_OF = {"\t": ".tsv", ",": ".csv"}


def read_text_table(path: Path, separator: str = ",", *, mend: str = "save it again as one") -> pd.DataFrame:
    """Read a table of text; empty where the file has no header.

    Parameters
    ----------
    path : Path
        An existing file in UTF-8, with or without a byte order mark.
    separator : str
        Comma or tab.
    mend : str
        What to do about a damaged file, for the message.

    Raises
    ------
    InputError
        Two columns have one name, or the columns are separated by something else.
    DataError
        It is not a table in UTF-8.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # pandas only warns of rows that are longer than the header, and drops the rest of them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = pd.read_csv(
                    file, sep=separator, dtype=str, header=None, keep_default_na=False, skipinitialspace=True,
                    index_col=False,
                )  # fmt: skip
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        if not isinstance(error, UnicodeDecodeError):
            with path.open(encoding="utf-8-sig") as file:
                _refuse_other_separator(file.readline().split(separator), separator, path)
        reason = str(error).strip().rstrip(".")
        raise DataError(f"{path} is not a table in CSV and UTF-8 ({reason}); {mend}.") from error
    # The header is read as a row, since pandas would rename the second of two columns of one name.
    header = table.iloc[0].fillna("").astype(str).str.strip()
    refuse_twins(header.tolist(), path)
    _refuse_other_separator(header.tolist(), separator, path)
    rows: pd.DataFrame = table.iloc[1:].reset_index(drop=True).apply(lambda column: column.fillna("").str.strip())
    return rows.set_axis(header, axis=1)


def refuse_twins(columns: Sequence[str], path: Path) -> None:
    """Raise InputError where two columns have one name."""
    twins = [name for name, count in Counter(columns).items() if count > 1]
    if twins:
        raise InputError(f"{path} has two columns {twins[0]!r}; rename one of them.")


def _refuse_other_separator(header: Sequence[str], separator: str, path: Path) -> None:
    for other, plural in SEPARATORS.items():
        if other != separator and len(header) == 1 and other in header[0]:
            raise InputError(
                f"{path} has its columns separated by {plural}; save it with {SEPARATORS[separator]}"
                + (f", or as {SUFFIX_OF[other]}." if other in SUFFIX_OF else ".")
            )
