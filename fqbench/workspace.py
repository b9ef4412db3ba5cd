"""Where results live: content-derived ids, directories that are whole or not there, manifests and locks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fqbench.errors import DataError, FqbenchError, InputError, WorkspaceError, did_you_mean
from fqbench.machine import installed_versions
from fqbench.reporter import Reporter, Silent

MANIFEST = "manifest.json"
ENVIRONMENT_VARIABLE = "FQBENCH_WORKSPACE"
DEFAULT_ROOT = Path("fqbench_runs")
MANY_FILES = 64  # beyond this, one sync of the file system is quicker than one a file
WRITE_FAILURES = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
        *(errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
    }
)
KINDS = (
    "datasets",
    "samples",
    "prepared",
    "checkpoints",
    "models",
    "calibrations",
    "records",
    "artifacts",
    "predictions",
    "evaluations",
    "benches",
)


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What an entry is, and everything that it came from.

    Attributes
    ----------
    id, kind : str
        Name of the entry and the folder it lies in.
    stage_version : int
        The version of the stage's code, raised when its result would change.
    determined_by : dict
        The values that the id is a hash of: digests of inputs, options, seeds.
    inputs : dict
        Ids of the entries it was made of, by role.
    config : dict
        The whole merged configuration of the run that made it.
    command, versions, created, seconds
        The command line, versions of the libraries, time (UTC) and duration of the run that made it.
    files : dict
        Every file with size and hash.
    digest : str
        SHA-256 over the hashes of the files: what later stages depend on.
    details : dict
        Facts that the stage found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    stage_version: int
    determined_by: dict[str, Any]
    inputs: dict[str, str]
    config: dict[str, Any]
    command: str
    versions: dict[str, str]
    created: str
    seconds: float
    files: dict[str, FileRecord]
    digest: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A finished directory of the workspace."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """Readable slug and short hash."""
        return self.manifest.id

    @property
    def digest(self) -> str:
        """SHA-256 over its files."""
        return self.manifest.digest

    @property
    def details(self) -> dict[str, Any]:
        """Facts that the stage found out."""
        return self.manifest.details

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name


@dataclass(frozen=True)
class Recipe:
    """What is asked of the workspace: everything that determines an entry.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    slug : str
        Readable beginning of the id.
    version : int
        The stage's own version.
    determined_by : mapping
        JSON values; the id is a hash of them, of ``kind`` and of ``version``.
    inputs : mapping
        Ids of the entries it is made of, for the reader of the manifest.
    """

    kind: str
    slug: str
    version: int
    determined_by: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def id(self) -> str:
        """Slug and ten hexadecimal digits."""
        text = json.dumps([self.kind, self.version, self.determined_by], sort_keys=True, default=str)
        slug = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.slug).strip("-.")
        return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


class Workspace:
    """A folder of finished entries, shared by any number of processes.

    Parameters
    ----------
    root : Path, optional
        ``$FQBENCH_WORKSPACE``, else ``./fqbench_runs``, where none is given.
    reporter : Reporter, optional
        Told when another process holds the lock.
    """

    def __init__(self, root: Path | str | None = None, reporter: Reporter | None = None) -> None:
        self.root = Path(root or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ROOT).absolute()
        self.reporter = reporter or Silent()

    def find(self, recipe: Recipe) -> Entry | None:
        """Return the finished entry of a recipe, or None."""
        return self._open(self.root / recipe.kind / recipe.id)

    def produce(self, recipe: Recipe, build: Callable[[Path], Mapping[str, Any]], config: Mapping[str, Any]) -> Entry:
        """Return the entry of a recipe, building it where it is not there yet.

        Parameters
        ----------
        recipe : Recipe
            What is asked for.
        build : callable
            Writes files into the directory that it is given and returns the manifest's ``details``.
        config : mapping
            The merged configuration, kept in the manifest.

        Raises
        ------
        WorkspaceError
            The workspace cannot be written. Errors of ``build`` pass through, and nothing stays behind.
        """
        found = self.find(recipe)
        if found is not None:
            return found
        final = self.root / recipe.kind / recipe.id
        with self._writing(), self._lock(recipe):
            found = self.find(recipe)  # another process may have finished it while this one waited
            if found is not None:
                return found
            for stale in final.parent.glob(f".{recipe.id}.*.partial"):
                shutil.rmtree(stale)  # a killed run's: whoever holds the lock is the only writer
            partial = final.parent / f".{recipe.id}.{secrets.token_hex(4)}.partial"
            partial.mkdir()
            try:
                manifest = self._fill(partial, recipe, build, config)
                partial.rename(final)
                _sync(final.parent)
            except BaseException as error:
                shutil.rmtree(partial, ignore_errors=True)
                if isinstance(error, FqbenchError):  # it would be refused again: nothing to go on with
                    shutil.rmtree(self._scratch(recipe), ignore_errors=True)
                raise
            shutil.rmtree(self._scratch(recipe), ignore_errors=True)
            return Entry(final, manifest)

    def scratch(self, recipe: Recipe) -> Path:
        """Return a folder beside the entry in which a build may leave what a killed run's successor can go on with.

        It is hidden, on the entry's disk, and removed when the entry is published or the build refuses its inputs. Only
        the build of this recipe may use it, while it runs.
        """
        folder = self._scratch(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _scratch(self, recipe: Recipe) -> Path:
        return self.root / recipe.kind / f".{recipe.id}.scratch"

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return all finished entries, oldest first; half-written ones are never seen, damaged ones only told of.

        Raises
        ------
        InputError
            No such kind.
        """
        if kind is not None and kind not in KINDS:
            raise InputError(f"unknown kind {kind!r}: {did_you_mean(kind, KINDS)}")
        found: list[Entry] = []
        for folder in KINDS if kind is None else (kind,):
            directory = self.root / folder
            if directory.is_dir():
                paths = [path for path in sorted(directory.iterdir()) if not path.name.startswith(".")]
                found += [entry for path in paths if (entry := self._whole(path)) is not None]
        return sorted(found, key=lambda entry: (entry.manifest.created, entry.id))

    def get(self, id_or_prefix: str, kind: str | None = None) -> Entry:
        """Return the entry whose id is, or uniquely begins with, the given text.

        Raises
        ------
        InputError
            No entry or several begin with it.
        DataError
            It is damaged.
        """
        for folder in KINDS if kind is None else (kind,):
            exact = self._open(self.root / folder / id_or_prefix)
            if exact is not None:
                return exact
        entries = self.entries(kind)
        matches = [entry for entry in entries if entry.id.startswith(id_or_prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"{id_or_prefix!r} could be {', '.join(entry.id for entry in matches)}; write more of it.")
        hint = did_you_mean(id_or_prefix, [entry.id for entry in entries]) if entries else "it is empty."
        raise InputError(f"no {kind or 'entry'} {id_or_prefix!r} in the workspace {self.root}: {hint}")

    def _whole(self, path: Path) -> Entry | None:
        try:
            return self._open(path)
        except DataError as error:
            self.reporter.say(str(error))
            return None

    def _open(self, path: Path) -> Entry | None:
        try:
            manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise DataError(f"the manifest of {path} is damaged; delete this directory and run again.") from error
        for name, record in manifest.files.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != record.size:
                raise DataError(f"{file} is missing or cut short; delete {path} and run again.")
        return Entry(path, manifest)

    def _fill(
        self,
        partial: Path,
        recipe: Recipe,
        build: Callable[[Path], Mapping[str, Any]],
        config: Mapping[str, Any],
    ) -> Manifest:
        start = time.monotonic()
        details = dict(build(partial))
        paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(partial)): _record(path) for path in paths}
        if len(paths) > MANY_FILES:
            os.sync()
        else:
            for path in paths:
                _sync(path)
        joined = "\n".join(f"{name} {record.sha256}" for name, record in files.items())
        manifest = Manifest(
            id=recipe.id,
            kind=recipe.kind,
            stage_version=recipe.version,
            determined_by=dict(recipe.determined_by),
            inputs=dict(recipe.inputs),
            config=dict(config),
            command=shlex.join(sys.argv),
            versions=installed_versions(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - start, 3),
            files=files,
            digest=hashlib.sha256(joined.encode()).hexdigest(),
            details=details,
        )
        target = partial / MANIFEST
        text = manifest.model_dump_json(indent=2) + "\n"
        target.write_text(text, encoding="utf-8")
        _sync(target)
        _sync(partial)
        # Read back, so that a tuple in the details is a list on the first run as on every later one.
        return Manifest.model_validate_json(text)

    @contextmanager
    def _lock(self, recipe: Recipe) -> Iterator[None]:
        from filelock import FileLock, Timeout

        folder = self.root / recipe.kind
        folder.mkdir(parents=True, exist_ok=True)
        locks = self.root / ".locks"
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{recipe.kind}-{recipe.id}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.reporter.say(f"waiting for another process that is making {recipe.kind}/{recipe.id}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Pictures that are none, lost connections and missing inputs are OSErrors, too: those are the build's own.
            place = self.root if error.filename is None else Path(str(error.filename))
            ours = place.is_relative_to(self.root) or self.root.is_relative_to(place)
            if error.errno not in WRITE_FAILURES or not ours:
                raise
            raise WorkspaceError(
                f"the workspace {self.root} cannot be written ({error.strerror or error}); "
                f"choose another with --workspace or ${ENVIRONMENT_VARIABLE}."
            ) from error


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(size=path.stat().st_size, sha256=digest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
