"""Archives for other machines: facts and files with their hashes, reproducible, and checked when they are read."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fqbench.errors import DataError, InputError
from fqbench.storage import file_digest, size_in_words, text_digest, whole_file

FACTS = "fqbench.json"
FORMAT = 2  # 2: how each artifact was executed is said in the same words for every runtime
PACK, RESULT = "fqbench pack", "fqbench result"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of the zip format: the same contents give the same bytes
CHUNK = 1 << 20
LARGEST_FACTS = 64 << 20
# Plain relative names; no "..", no leading slash, nothing that a file system could take for something else.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")


@dataclass(frozen=True)
class Pack:
    """An archive that was unpacked and checked.

    Attributes
    ----------
    facts : dict
        What its maker said.
    digest : str
        SHA-256 of the facts, which hold the hashes of all files.
    root : Path
        Where its files are.
    """

    facts: dict[str, Any]
    digest: str
    root: Path

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.root / name


def write_pack(path: Path, kind: str, facts: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """Write an archive next to ``path`` and rename it into place.

    Parameters
    ----------
    path : Path
        Where to; an older one is replaced.
    kind : str
        `PACK` or `RESULT`.
    facts : mapping
        JSON values.
    files : mapping
        Name in the archive to file.

    Returns
    -------
    str
        Its digest.

    Raises
    ------
    InputError
        It cannot be written there.
    """
    for name in files:
        _require_plain(name)
    listed = {name: {"size": file.stat().st_size, "sha256": file_digest(file)} for name, file in sorted(files.items())}
    text = json.dumps({"kind": kind, "format": FORMAT, **facts, "files": listed}, indent=1, sort_keys=True).encode()
    try:
        with whole_file(path) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(_member(FACTS), text)
            for name in listed:
                with files[name].open("rb") as source, archive.open(_member(name), "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); choose another place with --out."
        ) from error
    return text_digest(text)


def read_pack(path: Path, kind: str, folder: Path) -> Pack:
    """Unpack an archive into an empty folder and check every hash; nothing in it is executed or unpickled.

    Raises
    ------
    InputError
        There is no such file, or it is of another kind or version.
    DataError
        It is damaged, or holds something that it does not list.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = _facts_text(archive, path)
            facts = _facts(text, path, kind)
            _require_listed(archive, facts["files"], path)
            _require_room(facts["files"], folder)
            for name, record in facts["files"].items():
                _extract(archive, name, record, folder, path)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check its name.") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{path} is damaged or not an fqbench archive ({error}); copy it again.") from error
    return Pack(facts, text_digest(text), folder)


def _facts_text(archive: zipfile.ZipFile, path: Path) -> bytes:
    if FACTS not in archive.namelist() or archive.getinfo(FACTS).file_size > LARGEST_FACTS:
        raise DataError(f"{path} is not an fqbench archive: it has no {FACTS}; make it with `fqbench pack`.")
    return archive.read(FACTS)


def _facts(text: bytes, path: Path, kind: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts["kind"] != kind:
            verb = "`fqbench run-pack`" if facts["kind"] == PACK else "`fqbench import`"
            raise InputError(f"{path} is a {facts['kind']}, not a {kind}; it is for {verb}.")
        if facts["format"] != FORMAT:
            raise InputError(f"{path} has format {facts['format']}, this fqbench reads {FORMAT}; use the same version.")
        for name, record in facts["files"].items():
            _require_plain(name)
            if not (isinstance(record["size"], int) and record["size"] >= 0 and isinstance(record["sha256"], str)):
                raise DataError(f"{path} is damaged: it does not describe {name}; make it again.")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: its {FACTS} cannot be read ({error!r}); copy it again.") from error
    return facts


def _require_plain(name: str) -> None:
    if NAME.fullmatch(name) is None or name == FACTS:
        raise DataError(f"{name!r} is not a valid file name in an archive; nothing was unpacked.")


def _require_listed(archive: zipfile.ZipFile, files: Mapping[str, Any], path: Path) -> None:
    there = sorted(archive.namelist())
    if there != sorted([FACTS, *files]):
        odd = sorted(set(there) ^ {FACTS, *files}) or [name for name in there if there.count(name) > 1]
        raise DataError(f"{path} is damaged: {', '.join(odd[:3])} is missing, duplicated or not listed; make it again.")


def _require_room(files: Mapping[str, Any], folder: Path) -> None:
    needed, free = sum(int(record["size"]) for record in files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"unpacking takes {size_in_words(needed)} and {folder} has {size_in_words(free)} free; "
            "set TMPDIR elsewhere."
        )


def _extract(archive: zipfile.ZipFile, name: str, record: Mapping[str, Any], folder: Path, path: Path) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), int(record["size"])
    with archive.open(name) as source, target.open("xb") as file:
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            file.write(chunk)
    if left != 0 or digest.hexdigest() != record["sha256"]:
        raise DataError(f"{path} is damaged: {name} is not what was packed; copy it again.")


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EARLIEST)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    return member
