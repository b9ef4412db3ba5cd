"""Where the bytes of a picture are stored: in a file of its own, or in a row of a Parquet or Arrow file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fqbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROW = "#"  # between the file and the row in the path of an embedded picture
BATCH = 64  # rows of a Parquet file that are in memory at once


class Picture(Protocol):
    """A picture's bytes; its ``str`` is its name in messages. A `Path` is one."""

    def read_bytes(self) -> bytes:
        """Return the file's content."""


class Pictures(Protocol):
    """The pictures of a data set."""

    def chunk(self, paths: Sequence[str]) -> Sequence[Picture]:
        """Return the pictures of these rows of the table of samples; in the table's order it is fastest."""


@dataclass(frozen=True)
class Files:
    """Pictures in files of their own.

    Attributes
    ----------
    root : Path
        The folder that their paths are relative to.
    """

    root: Path

    def chunk(self, paths: Sequence[str]) -> Sequence[Picture]:
        """Return the files; nothing is read yet."""
        return [self.root / path for path in paths]


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture that was read from a row.

    Attributes
    ----------
    name : str
        File and row.
    content : bytes or None
        None where the row has no picture.
    """

    name: str
    content: bytes | None

    def read_bytes(self) -> bytes:
        """Return the picture's bytes.

        Raises
        ------
        DataError
            The row has none.
        """
        if self.content is None:
            raise DataError(f"{self.name} contains no image data; save the data set with its images inside.")
        return self.content

    def __str__(self) -> str:
        return self.name


class EmbeddedPictures:
    """Pictures inside Parquet or Arrow files, read row by row: no file is read into memory as a whole.

    Parameters
    ----------
    root : Path
        The folder that the files are relative to.
    column : str
        Column of the pictures: bytes, or a struct with a field ``bytes``.
    """

    def __init__(self, root: Path, column: str) -> None:
        self.root, self.column = root, column
        self._shard = ""
        self._rows: _ArrowRows | _ParquetRows | None = None

    def chunk(self, paths: Sequence[str]) -> Sequence[Picture]:
        """Read the pictures of these rows."""
        return [self._read(path) for path in paths]

    def _read(self, path: str) -> Picture:
        shard, _, row = path.rpartition(ROW)
        try:
            if shard != self._shard or self._rows is None:
                kind = _ParquetRows if shard.endswith(".parquet") else _ArrowRows
                self._rows, self._shard = kind(self.root / shard, self.column), shard
            value = self._rows.value(int(row))
        except (OSError, KeyError, ValueError, IndexError) as error:  # Arrow's own errors are ValueErrors, too
            raise DataError(f"{self.root / shard} cannot be read ({error}); save the data set again.") from error
        return EmbeddedPicture(f"{self.root / shard}, row {row}", value["bytes"] if isinstance(value, dict) else value)


class _ArrowRows:
    """A memory-mapped Arrow stream: the system brings in the pages of the rows that are asked for."""

    def __init__(self, path: Path, column: str) -> None:
        self.column: Any = open_arrow(path).column(column)

    def value(self, row: int) -> Any:
        return self.column[row].as_py()


class _ParquetRows:
    """A Parquet file read forwards a few rows at a time; going back begins again at the row group."""

    def __init__(self, path: Path, column: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Mapped, since a column of a row group would be read whole otherwise, and may be all of the data.
        self.file = pq.ParquetFile(path, memory_map=True)
        self.column = column
        sizes = [self.file.metadata.row_group(group).num_rows for group in range(self.file.metadata.num_row_groups)]
        self.starts = [0, *accumulate(sizes)][:-1]
        self.total = sum(sizes)
        self.batches: Iterator[pa.RecordBatch] = iter(())
        self.first, self.values = 0, pa.array([])  # the batch in memory

    def value(self, row: int) -> Any:
        if not 0 <= row < self.total:
            raise IndexError(f"it has {self.total} rows, not {row + 1}")
        group = bisect_right(self.starts, row) - 1
        if not len(self.values) or row < self.first or self.starts[group] > self.first + len(self.values):
            groups = list(range(group, len(self.starts)))
            self.batches = self.file.iter_batches(BATCH, row_groups=groups, columns=[self.column], use_threads=False)
            self.first, self.values = self.starts[group], self._next()
        while row >= self.first + len(self.values):
            self.first += len(self.values)
            self.values = self._next()
        return self.values[row - self.first].as_py()

    def _next(self) -> Any:
        return next(self.batches).column(self.column)


def open_arrow(path: Path) -> pa.Table:
    """Map an Arrow stream into memory, as `datasets` writes them; nothing is read but the schema and the offsets.

    Raises
    ------
    ValueError, OSError
        It is damaged or missing.
    """
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()
