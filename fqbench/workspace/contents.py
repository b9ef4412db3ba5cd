"""Check the files of an entry: hash them before the first use, and again whenever one has changed.

A file that was hashed is trusted for as long as its size, its times of change and its inode stay the same, as in git's
index. What changes a file behind the back of the file system is found by `fqbench verify`, which hashes everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fqbench.errors import DataError
from fqbench.storage import file_digest, text_digest, write_whole
from fqbench.workspace.entries import FileRecord

CHECKED = ".checked"


def record_of(path: Path) -> FileRecord:
    """Return size and hash of a file."""
    return FileRecord(size=path.stat().st_size, sha256=file_digest(path))


def check(root: Path, entry: Path, files: Mapping[str, FileRecord]) -> None:
    """Compare the files of an entry with their hashes, unless none has changed since the last check.

    Parameters
    ----------
    root : Path
        The workspace.
    entry : Path
        Folder of the entry.
    files : mapping of str to FileRecord
        From its manifest.

    Raises
    ------
    DataError
        A file is missing or differs; the message says how to make it again.
    """
    signature, place = _signature(entry, files), _place(root, entry)
    if signature is not None and _read(place) == signature:
        return
    for problem in damages(entry, files):
        raise DataError(f"{problem}; delete {entry} and run the same command again.")
    if signature is not None:
        remember(root, entry, files)


def damages(entry: Path, files: Mapping[str, FileRecord]) -> Iterator[str]:
    """Yield a phrase for every file that is missing or differs from its hash."""
    for name, record in files.items():
        file = entry / name
        try:
            size = file.stat().st_size
            if size != record.size:
                yield f"{file} is damaged: it has {size} bytes instead of {record.size}"
            elif file_digest(file) != record.sha256:
                yield f"{file} is damaged: its contents are not those that were written (SHA-256 differs)"
        except (FileNotFoundError, NotADirectoryError):
            yield f"{file} is missing"
        except OSError as error:
            yield f"{file} cannot be read ({error.strerror or error})"


def remember(root: Path, entry: Path, files: Mapping[str, FileRecord]) -> None:
    """Record that the files of an entry, in their present state, are what was written."""
    signature, place = _signature(entry, files), _place(root, entry)
    if signature is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, signature)
    except OSError:  # a workspace that can only be read is hashed each time
        return


def forget(root: Path, entry: Path) -> None:
    """Forget that an entry was checked; where nothing can be written, nothing is forgotten."""
    with suppress(OSError):
        _place(root, entry).unlink(missing_ok=True)


def _signature(entry: Path, files: Mapping[str, FileRecord]) -> str | None:
    """Hash of the files' metadata in the file system; None if one is missing."""
    parts = []
    try:
        for name in files:
            status = os.stat(f"{entry}/{name}")  # noqa: PTH116 - a Path per file costs as much as the call, and a data set has many
            parts.append(f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}")
    except OSError:
        return None
    return text_digest("\n".join(parts))


def _place(root: Path, entry: Path) -> Path:
    return root / CHECKED / entry.parent.name / entry.name


def _read(place: Path) -> str | None:
    try:
        return place.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
