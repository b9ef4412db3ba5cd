"""Columns of Parquet and Arrow files as text, for the readers of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def plain_columns(schema: pa.Schema) -> list[str]:
    """Return the columns with one text, number, date or boolean per row: no lists, structs or bytes."""
    import pyarrow as pa

    types = pa.types
    nested = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_null)
    return [field.name for field in schema if not any(test(field.type) for test in nested)]


def as_text(column: pa.ChunkedArray, names: Sequence[str] | None = None) -> pd.Series[str]:
    """Return a column as text, an empty one where a value is missing.

    Parameters
    ----------
    column : ChunkedArray
        Of plain values. Floats that are whole numbers are written as such: a missing value makes floats of integers.
    names : sequence of str, optional
        What the whole numbers of the column stand for.
    """
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.to_pylist()
    return pd.Series([_text(value, names) for value in values], dtype=object)


def _text(value: Any, names: Sequence[str] | None) -> str:
    if value is None or value != value:  # noqa: PLR0124 - not a number
        return ""
    if names is not None:
        return names[value] if 0 <= value < len(names) else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
