"""Checks of a listing of pictures: names stay inside the folder, are unique, and exist."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from fqbench.errors import DataError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SHOWN = 3


def some(names: Sequence[str]) -> str:
    """Return the first few names for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def check_name(text: str, where: str) -> None:
    """Check one file name of a table.

    Parameters
    ----------
    text : str
        What the table says.
    where : str
        Table and row, for the message.

    Raises
    ------
    InputError
        It is empty, absolute, leaves the folder, or names no picture.
    """
    if not text:
        raise InputError(f"{where}: file_name is empty; give the path of the image, or remove the row.")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or PureWindowsPath(text).root:
        raise InputError(f"{where}: file_name {text!r} is an absolute path; give it relative to the folder.")
    if ".." in PureWindowsPath(text).parts:
        raise InputError(f"{where}: file_name {text!r} leaves the folder with '..'; move the image into it.")
    if not text.lower().endswith(SUFFIXES):
        raise InputError(
            f"{where}: {text!r} is not a supported image type ({', '.join(SUFFIXES)}); convert it or remove the row."
        )


def check_names(given: Sequence[str], table: str) -> list[str]:
    """Return the names of a table in plain form, each occurring once.

    Raises
    ------
    InputError
        A name that `check_name` refuses, or one that occurs twice.
    """
    for row, text in enumerate(given):
        check_name(text, f"{table}, row {row + 1}")
    names = [PurePosixPath(text).as_posix() for text in given]
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise InputError(f"{table} lists {len(twice)} file(s) more than once ({some(twice)}); keep one row per image.")
    return names


def check_present(names: Sequence[str], root: Path, table: str) -> set[str]:
    """Check that every file of a table exists, and return all files of its folders.

    Raises
    ------
    DataError
        Files are missing.
    """
    present = files_beside(root, names)
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} images in {table} are not under {root} ({some(missing)}); "
            "copy them there, or remove their rows."
        )
    return present


def files_beside(root: Path, names: Collection[str]) -> set[str]:
    """Return the files in the folders of ``names``: one listing per folder, since network disks are slow."""
    found: set[str] = set()
    for folder in {PurePosixPath(name).parent for name in names}:
        if (root / folder).is_dir():
            with os.scandir(root / folder) as entries:
                found.update((folder / entry.name).as_posix() for entry in entries if entry.is_file())
    return found


def first_existing(root: Path, candidates: Sequence[str]) -> Path | None:
    """Return the first of several relative paths that exists below ``root``."""
    return next((root / candidate for candidate in candidates if (root / candidate).exists()), None)
