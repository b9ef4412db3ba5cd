"""Find the files that a user's table names: with or without extension, by path or by file name only."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from fqbench.data.listing import files_beside, some
from fqbench.errors import DataError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

LOST = "lost+found"  # the system's folder at the root of a disk, which nobody else may read


def is_picture(name: str) -> bool:
    """Whether a file is a picture, by its extension."""
    return name.lower().endswith(SUFFIXES)


def stop(error: OSError) -> None:
    """Raise what `os.walk` would pass over."""
    raise error


def open_folders(names: Iterable[str]) -> list[str]:
    """Return the folders that are looked into, sorted: not hidden ones, nor the system's own."""
    return sorted(name for name in names if not name.startswith(".") and name != LOST)


def pictures_below(root: Path) -> Iterator[str]:
    """Yield the pictures in a folder and its sub-folders in a fixed order, relative to it; hidden ones are left out.

    Raises
    ------
    OSError
        A folder cannot be read: its pictures, perhaps a class, would be missing without a word.
    """
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=stop):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            below.clear()
            continue
        seen.add(real)
        below[:] = open_folders(below)
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in sorted(files):
            if is_picture(name) and not name.startswith("."):
                yield (inside / name).as_posix()


def spelled_as_on_disk(names: Sequence[str], root: Path) -> list[str]:
    """Return names with letters composed as the disk has them: "é" is one character, or two as macOS writes it."""
    if all(map(str.isascii, names)):
        return list(names)
    present = files_beside(root, names)
    if present.issuperset(names):
        return list(names)
    spelled = {_composed(name): name for name in pictures_below(root)}
    return [name if name in present else spelled.get(_composed(name), name) for name in names]


def require_text(names: Iterable[str], root: Path) -> None:
    """Check that file names are text, which not every name on a disk is.

    Raises
    ------
    DataError
        One holds bytes that are not UTF-8, as names out of old archives do.
    """
    for name in names:
        if not name.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in name):
            shown = os.fsencode(name).decode(errors="replace")
            raise DataError(
                f"{root} holds {shown!r}, whose name is not UTF-8; rename it, as `convmv -f latin1 -t utf8` does, or "
                "move it away."
            )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def find_pictures(given: Sequence[str], root: Path, where: str) -> list[str]:
    """Return the picture that each row of a table names, relative to ``root``.

    A row may give the path below ``root``, an absolute path inside it, a path that begins with the name of ``root``
    itself, or the file's name alone where it is in a sub-folder; each with or without its ending.

    Parameters
    ----------
    given : sequence of str
        What the rows say.
    root : Path
        Folder of the pictures.
    where : str
        Name of the table in messages.

    Raises
    ------
    InputError
        A path is empty or leaves the folder, or two rows mean the same picture.
    DataError
        Pictures are missing, or a name fits several.
    """
    names = [_inside(text, root, f"{where}, row {row + 1}") for row, text in enumerate(given)]
    present = files_beside(root, names)
    if not all(name in present and is_picture(name) for name in names):
        names = Finder(pictures_below(root)).all_of(names, root, where)
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise InputError(f"{where} lists {len(twice)} image(s) more than once ({some(twice)}); keep one row per image.")
    return names


class Finder:
    """Finds pictures by what tables call them.

    Parameters
    ----------
    pictures : iterable of str
        Relative paths.
    """

    def __init__(self, pictures: Iterable[str]) -> None:
        self.by_key: dict[str, list[str]] = {}
        for picture in pictures:
            path = PurePosixPath(picture)
            for key in {picture, path.with_suffix("").as_posix(), path.name, path.stem}:
                self.by_key.setdefault(_composed(key), []).append(picture)

    def candidates(self, name: str) -> list[str]:
        """Return the pictures that a name may refer to: only the path itself if it exists."""
        found = self.by_key.get(_composed(name), [])
        return [name] if name in found else found

    def all_of(self, names: Sequence[str], root: Path, where: str) -> list[str]:
        """Return the one picture of each name, or raise DataError."""
        found = [self.candidates(name) or self.candidates(name.removeprefix(f"{root.name}/")) for name in names]
        missing = [name for name, pictures in zip(names, found, strict=True) if not pictures]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(names)} images in {where} are not under {root} ({some(missing)}); "
                "give the folder that holds them with --images DIR, or remove these rows."
            )
        for name, pictures in zip(names, found, strict=True):
            if len(pictures) > 1:
                raise DataError(
                    f"{where}: {name!r} fits {len(pictures)} images under {root} ({some(pictures)}); "
                    "write the path below that folder with its ending."
                )
        return [pictures[0] for pictures in found]


def _inside(text: str, root: Path, where: str) -> str:
    if not text:
        raise InputError(f"{where}: the image's path is empty; fill it in, or remove the row.")
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(root.as_posix()):
        path = path.relative_to(root.as_posix())
    if path.is_absolute() or PureWindowsPath(text).drive:
        raise InputError(f"{where}: {text!r} is not inside {root}; give the folder of the images with --images DIR.")
    if ".." in path.parts:
        raise InputError(f"{where}: {text!r} leaves the folder with '..'; write the path below {root}.")
    return path.as_posix()
