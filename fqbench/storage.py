"""Values on disk: atomic writes, hashes, arrays, and results as JSON that can be read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fqbench.errors import DataError

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray


POINTER = b"version https://git-lfs.github.com/spec/"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; large files are read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pointer(path: Path) -> None:
    """Raise an error for what Git LFS leaves in place of a large file that was not fetched.

    Raises
    ------
    DataError
        The file is such a pointer.
    """
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise DataError(
                f"{path} is only a pointer of Git LFS to the file; fetch the file itself with `git lfs pull`."
            )


def text_digest(text: str | bytes) -> str:
    """Return the SHA-256 of a text in hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def size_in_words(size: int) -> str:
    """Return a number of bytes in the unit that suits it, as in "3.4 MB"."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= unit), (1e3, "kB"))
    return f"{size / unit:,.1f} {name}"


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for an atomic write: a killed process leaves the earlier file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays atomically into a compressed file; the same arrays give the same bytes."""
    import numpy as np

    with whole_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays that `write_arrays` wrote; nothing in the file is executed.

    Raises
    ------
    ValueError
        The file is not such an archive, or it is damaged.
    """
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(str(error)) from error


class Stored:
    """Base of frozen dataclasses that are written as JSON and read back without loss, NaN and infinity included.

    JSON has no NaN: on disk an undefined or unbounded number is the text ``NaN``, ``Infinity`` or ``-Infinity``.
    """

    def to_json(self) -> str:
        """Return this value as JSON that `from_json` reads."""
        text: bytes = _adapter(type(self)).dump_json((self,), indent=1)
        return text.decode()[1:-1].strip() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "this text") -> Self:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            JSON.
        source : str
            Where it comes from, for the error.

        Raises
        ------
        DataError
            It does not hold such a value.
        """
        from pydantic import ValidationError

        content = text.encode() if isinstance(text, str) else text
        try:
            value: Self = _adapter(cls).validate_json(b"[" + content + b"]")[0]
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"][1:])) or "the whole"
            raise DataError(
                f"{source} does not hold a {cls.__name__} of this fqbench ({place}: {problem['msg']}); "
                "delete it and run the same command again."
            ) from error
        return value

    def save(self, path: Path) -> None:
        """Write it into a file."""
        write_whole(path, self.to_json())

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read it from a file.

        Raises
        ------
        DataError
            The file does not hold such a value.
        """
        return cls.from_json(path.read_bytes(), source=str(path))


_ADAPTERS: dict[type, Any] = {}


def _adapter(kind: type) -> Any:
    """Return reader and writer of one dataclass; in a tuple, since a dataclass itself takes no configuration."""
    from pydantic import ConfigDict, TypeAdapter

    if kind not in _ADAPTERS:
        configuration = ConfigDict(ser_json_inf_nan="strings", extra="forbid")
        _ADAPTERS[kind] = TypeAdapter(tuple[kind], config=configuration)  # type: ignore[valid-type]
    return _ADAPTERS[kind]


def finite_or_none(value: Any) -> Any:
    """Turn nested values into what ``json.dumps(..., allow_nan=False)`` takes: NaN and infinity become None."""
    import math
    from dataclasses import fields, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: finite_or_none(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if hasattr(value, "dtype") and hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
