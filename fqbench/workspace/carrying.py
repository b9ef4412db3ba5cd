"""Carry an entry from one workspace to another as bytes; it arrives whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from pathlib import Path
from typing import Any

from fqbench.errors import DataError
from fqbench.storage import sync
from fqbench.workspace import contents
from fqbench.workspace.entries import Kind
from fqbench.workspace.store import MANIFEST, MANY_FILES, Workspace


def pack(workspace: Workspace, kind: Kind[Any], name: str) -> bytes:
    """Return an entry's manifest and files as bytes.

    Raises
    ------
    DataError
        It is damaged.
    """
    entry = workspace.get(name, kind)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for file in (*entry.manifest.files, MANIFEST):
            archive.add(entry.file(file), arcname=file, recursive=False)
    return data.getvalue()


def unpack(workspace: Workspace, kind: Kind[Any], name: str, data: bytes) -> None:
    """Put an entry into a workspace, unless it is there.

    Its files are compared with the hashes in its manifest before it gets its name.

    Raises
    ------
    DataError
        It did not arrive as it was sent.
    WorkspaceError
        The workspace cannot be written.
    """
    final = workspace.root / kind.name / name
    with workspace.writing(), workspace.making(kind.name, name):
        if (final / MANIFEST).is_file():
            return
        partial = final.parent / f".{name}.{secrets.token_hex(4)}.partial"
        partial.mkdir()
        try:
            _extract(data, partial, f"{kind.name}/{name}")
            manifest = workspace.open(partial, kind).manifest
            problem = next(contents.damages(partial, manifest.files), "")
            if (manifest.kind, manifest.id) != (kind.name, name):
                problem = f"{manifest.kind}/{manifest.id} came"
            if problem:
                raise DataError(f"{kind.name}/{name} did not arrive as it was sent ({problem}).")
            _sync(partial)
            partial.rename(final)
            sync(final.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        contents.remember(workspace.root, final, manifest.files)


def _extract(data: bytes, folder: Path, what: str) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{what} did not arrive as it was sent ({error}).") from error
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{what} did not arrive as it was sent (its manifest is missing).")


def _sync(folder: Path) -> None:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    if len(paths) > MANY_FILES:
        os.sync()
        return
    for path in (*paths, folder):
        sync(path)
