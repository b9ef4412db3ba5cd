"""Upkeep of a workspace: find damaged entries and unused files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fqbench.errors import DataError
from fqbench.storage import finite_or_none
from fqbench.workspace import contents
from fqbench.workspace.entries import Entry, Facts, derived_id, digest_of
from fqbench.workspace.kinds import RESULTS
from fqbench.workspace.store import LOCKS, OutdatedError, Workspace


@dataclass(frozen=True)
class Damage:
    """A damaged entry.

    Attributes
    ----------
    id, kind : str
        Which entry.
    problem : str
        What is wrong, with the file.
    remedy : str
        How to make it again.
    """

    id: str
    kind: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Verification:
    """The result of checking every byte.

    Attributes
    ----------
    entries, files, bytes : int
        How much was hashed.
    damages : tuple of Damage
        Empty where all is well.
    outdated : tuple of str
        Entries of another version of fqbench, which were not checked.
    """

    entries: int
    files: int
    bytes: int
    damages: tuple[Damage, ...]
    outdated: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        plain: dict[str, object] = finite_or_none(self)
        return plain


def verify(workspace: Workspace, ids: Iterable[str] = ()) -> Verification:
    """Hash every file of some entries, or of all, and compare with their manifests.

    Parameters
    ----------
    workspace : Workspace
        What is checked; nothing in it is changed but the memory of what was checked.
    ids : iterable of str
        Ids or unique prefixes; all entries where there are none.

    Raises
    ------
    InputError
        No entry or several have such an id.
    """
    folders = [workspace.folder_of(one) for one in ids] or workspace.folders()
    entries, outdated, damages = [], [], []
    for kind, path in folders:
        contents.forget(workspace.root, path)
        try:
            entry = workspace.open(path, kind)
        except OutdatedError:
            outdated.append(f"{kind.name}/{path.name}")
            continue
        except DataError as error:
            problem, _, remedy = str(error).partition("; ")
            damages.append(Damage(path.name, kind.name, problem, remedy))
            continue
        entries.append(entry)
        found = [*_inconsistencies(entry), *contents.damages(path, entry.manifest.files)]
        remedy = f"delete {path} and run again: {entry.manifest.command}"
        damages += [Damage(path.name, kind.name, problem, remedy) for problem in found]
        if not found:
            contents.remember(workspace.root, path, entry.manifest.files)
    records = [record for entry in entries for record in entry.manifest.files.values()]
    return Verification(
        len(entries), len(records), sum(record.size for record in records), tuple(damages), tuple(outdated)
    )


def _inconsistencies(entry: Entry[Facts]) -> list[str]:
    manifest, found = entry.manifest, []
    slug = manifest.id.rpartition("-")[0]
    if (entry.path.name, entry.path.parent.name) != (manifest.id, manifest.kind):
        found.append(f"{entry.path} holds {manifest.kind}/{manifest.id}")
    if derived_id(manifest.kind, manifest.stage_version, slug, manifest.determined_by) != manifest.id:
        found.append(f"the id of {entry.path} does not match its inputs")
    if digest_of(manifest.files) != manifest.digest:
        found.append(f"the digest of {entry.path} does not match its files")
    return found


@dataclass(frozen=True)
class Garbage:
    """Something in a workspace that nothing refers to.

    Attributes
    ----------
    path : Path
        File or folder.
    reason : str
        Why it can go.
    bytes : int
        What it takes on the disk.
    """

    path: Path
    reason: str
    bytes: int

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {"path": str(self.path), "reason": self.reason, "bytes": self.bytes}


def collect(workspace: Workspace, *, delete: bool = False) -> list[Garbage]:
    """Find what nothing refers to: remains of killed runs, and entries that no result uses.

    Results are artifacts, engines, decisions, predictions, evaluations, measurements, replications and gates: they and
    everything that they were made of stay. What another process is making now stays, too.

    Parameters
    ----------
    workspace : Workspace
        Where to look.
    delete : bool
        Remove what was found; otherwise it is only named.
    """
    garbage = [*_unreferenced(workspace), *_remains(workspace)]
    if delete:
        for one in garbage:
            _remove(workspace, one.path)
    return garbage


def _unreferenced(workspace: Workspace) -> list[Garbage]:
    entries: dict[str, Entry[Facts]] = {}
    found = []
    for kind, path in workspace.folders():
        try:
            entries[path.name] = workspace.open(path, kind)
        except OutdatedError:
            found.append(_garbage(path, "written by another version of fqbench"))
        except DataError:
            continue  # damaged, not unused: `verify` names it, and a person decides
    waiting = [entry for entry in entries.values() if entry.kind in RESULTS]
    kept: set[str] = set()
    while waiting:
        entry = waiting.pop()
        if entry.id not in kept:
            kept.add(entry.id)
            waiting += [entries[one] for one in entry.manifest.inputs.values() if one in entries]
    unused = [entry for entry in entries.values() if entry.id not in kept]
    return found + [_garbage(entry.path, "no result uses it") for entry in unused]


def _remains(workspace: Workspace) -> list[Garbage]:
    """Remains of killed runs: partial entries, scratch folders, locks, and boards of missing runs."""
    found = []
    for kind in [path for path in workspace.root.iterdir() if path.is_dir()] if workspace.root.is_dir() else []:
        for path in sorted(kind.glob(".*")):
            name = path.name.removeprefix(".")
            entry_id = name.removesuffix(".scratch") if name.endswith(".scratch") else name.rpartition(".")[0]
            entry_id = entry_id.rpartition(".")[0] if name.endswith(".partial") else entry_id
            if path.suffix in {".scratch", ".partial"} and _is_free(workspace, kind.name, entry_id):
                found.append(_garbage(path, "left by a run that was stopped"))
    for lock in sorted((workspace.root / LOCKS).glob("*.lock")):
        if _is_free_lock(lock):
            found.append(_garbage(lock, "lock that no process holds"))
    for place in sorted((workspace.root / contents.CHECKED).glob("*/*")):
        if not (workspace.root / place.parent.name / place.name).is_dir():
            found.append(_garbage(place, "record of a check of an entry that no longer exists"))
    return found


def _is_free(workspace: Workspace, kind: str, entry_id: str) -> bool:
    return _is_free_lock(workspace.root / LOCKS / f"{kind}-{entry_id}.lock")


def _is_free_lock(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.is_file():
        return True
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    lock.release()
    return True


def _garbage(path: Path, reason: str) -> Garbage:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Garbage(path, reason, sum(file.stat().st_size for file in files))


def _remove(workspace: Workspace, path: Path) -> None:
    if path.is_dir():
        contents.forget(workspace.root, path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
