"""The workspace: atomically published directories, found by what they were derived from."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

from fqbench.errors import DataError, FqbenchError, InputError, WorkspaceError, did_you_mean
from fqbench.machine import installed_versions
from fqbench.reporter import Reporter, Silent
from fqbench.storage import sync
from fqbench.workspace import contents
from fqbench.workspace.entries import LAYOUT, UNSEALED, Derivation, Entry, F, Facts, Kind, Manifest, digest_of, seals
from fqbench.workspace.kinds import KINDS, kind_named

MANIFEST = "manifest.json"
LOCKS = ".locks"
ENVIRONMENT_VARIABLE = "FQBENCH_WORKSPACE"
DEFAULT_ROOT = Path("fqbench_runs")
SHORTEST_HASH = 4  # characters of the end of an id, as tables show it
MANY_FILES = 64  # beyond this, one sync of the file system is quicker than one for each file
WRITE_FAILURES = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
        *(errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
    }
)


class OutdatedError(DataError):
    """An entry was written by another version of fqbench in another format."""


class Workspace:
    """A folder of finished entries, shared by any number of processes.

    Parameters
    ----------
    root : Path, optional
        ``$FQBENCH_WORKSPACE``, else ``./fqbench_runs``, where none is given.
    reporter : Reporter, optional
        Notified when another process holds the lock.
    """

    def __init__(self, root: Path | str | None = None, reporter: Reporter | None = None) -> None:
        self.root = Path(root or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ROOT).expanduser().absolute()
        self.reporter = reporter or Silent()

    def find(self, derivation: Derivation[F]) -> Entry[F] | None:
        """Return the finished entry of a derivation, its files checked, or None.

        Raises
        ------
        DataError
            It is there and damaged.
        """
        path = self._folder(derivation)
        return self._checked(path, derivation.kind) if (path / MANIFEST).is_file() else None

    def produce(self, derivation: Derivation[F], build: Callable[[Path], F], config: Mapping[str, Any]) -> Entry[F]:
        """Return the entry of a derivation, building it if necessary.

        Parameters
        ----------
        derivation : Derivation
            What is asked for.
        build : callable
            Writes files into the directory that it is given and returns the facts of the derivation's kind.
        config : mapping
            The merged configuration, kept in the manifest.

        Raises
        ------
        WorkspaceError
            The workspace cannot be written. Errors of ``build`` pass through, and nothing stays behind.
        """
        found = self.find(derivation)
        if found is not None:
            return found
        final = self._folder(derivation)
        with self.writing(), self.making(derivation.kind.name, derivation.id):
            found = self.find(derivation)  # another process may have finished it while this one waited
            if found is not None:
                return found
            for stale in final.parent.glob(f".{derivation.id}.*.partial"):
                shutil.rmtree(stale)  # a killed run's: whoever holds the lock is the only writer
            partial = final.parent / f".{derivation.id}.{secrets.token_hex(4)}.partial"
            partial.mkdir()
            try:
                entry = Entry(final, *_fill(partial, derivation, build, config))
                partial.rename(final)
                sync(final.parent)
            except BaseException as error:
                shutil.rmtree(partial, ignore_errors=True)
                if isinstance(error, FqbenchError):  # it would be refused again: nothing to go on with
                    shutil.rmtree(self._scratch(derivation), ignore_errors=True)
                raise
            shutil.rmtree(self._scratch(derivation), ignore_errors=True)
            contents.remember(self.root, final, entry.manifest.files)
            return entry

    def scratch(self, derivation: Derivation[Any]) -> Path:
        """Return a folder next to the entry, in which a build may keep what the next run needs to resume.

        It is hidden, on the entry's disk, and removed when the entry is published or the build refuses its inputs. Only
        the build of this derivation may use it, while it runs.
        """
        folder = self._scratch(derivation)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @overload
    def entries(self, kind: Kind[F]) -> list[Entry[F]]: ...
    @overload
    def entries(self, kind: str | None = None) -> list[Entry[Facts]]: ...
    def entries(self, kind: Kind[Any] | str | None = None) -> list[Entry[Any]]:
        """Return all finished entries, oldest first; partial ones are never returned, damaged ones only reported.

        Parameters
        ----------
        kind : Kind or str, optional
            Only this kind.

        Raises
        ------
        InputError
            There is no such kind.
        """
        found: list[Entry[Any]] = []
        outdated = 0
        for one, path in self.folders(kind):
            try:
                found.append(self._checked(path, one))
            except OutdatedError:
                outdated += 1
            except DataError as error:
                self.reporter.say(str(error))
        if outdated:
            self.reporter.say(
                f"{outdated} entries of {self.root} were written by another version of fqbench and are left out; run "
                "their commands again (`command` in each manifest.json), then remove them with `fqbench gc --delete`."
            )
        return sorted(found, key=lambda entry: (entry.manifest.created, entry.id))

    @overload
    def get(self, id_or_prefix: str, kind: Kind[F]) -> Entry[F]: ...
    @overload
    def get(self, id_or_prefix: str, kind: str | Sequence[Kind[Any]] | None = None) -> Entry[Facts]: ...
    def get(self, id_or_prefix: str, kind: Kind[Any] | str | Sequence[Kind[Any]] | None = None) -> Entry[Any]:
        """Return the entry whose id is, or uniquely begins with, the given text; its files are checked.

        Four or more characters of the hash at the end of an id, as tables show it, are enough, too.

        Raises
        ------
        InputError
            No entry or several begin with it.
        DataError
            It is damaged, or was written by another version of fqbench.
        """
        found, path = self._named(id_or_prefix, kind)
        return self._checked(path, found)

    def _named(self, id_or_prefix: str, kind: Kind[Any] | str | Sequence[Kind[Any]] | None) -> tuple[Kind[Any], Path]:
        exact = self._exactly(id_or_prefix, kind)
        if len(exact) == 1:
            return exact[0]
        folders = self.folders(kind)
        matches = exact or [(one, path) for one, path in folders if path.name.startswith(id_or_prefix)]
        matches = matches or [(one, path) for one, path in folders if _ends_with(path.name, id_or_prefix)]
        if len(matches) > 1:  # of entries that this version and another one wrote, this one's are meant
            matches = [(one, path) for one, path in matches if not self._outdated(one, path)] or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(path.name for _one, path in matches)
            raise InputError(f"{id_or_prefix!r} is ambiguous ({names}); give a longer prefix.")
        first = kind if kind is None or isinstance(kind, str | Kind) else kind[0]
        name = first.name if isinstance(first, Kind) else first or "entry"
        hint = did_you_mean(id_or_prefix, [path.name for _one, path in folders]) if folders else "it is empty."
        raise InputError(f"no {name} {id_or_prefix!r} in the workspace {self.root}: {hint}")

    def located(self, name: str) -> tuple[Kind[Any], Path] | None:
        """Return kind and folder of the entry with this very id, whatever its state; None if there is none."""
        return next(iter(self._exactly(name, None)), None)

    def _exactly(self, name: str, kind: Kind[Any] | str | Sequence[Kind[Any]] | None) -> list[tuple[Kind[Any], Path]]:
        """Return the entries with this very name, without listing the workspace, which may have many thousands."""
        if not name or Path(name).name != name or name.startswith("."):
            return []
        kinds = kinds_of(kind)
        return [(one, path) for one in kinds if ((path := self.root / one.name / name) / MANIFEST).is_file()]

    def folders(self, kind: Kind[Any] | str | Sequence[Kind[Any]] | None = None) -> list[tuple[Kind[Any], Path]]:
        """Return kind and folder of every published entry, whatever its state.

        Raises
        ------
        InputError
            There is no such kind.
        """
        return [
            (one, path)
            for one in kinds_of(kind)
            if (self.root / one.name).is_dir()
            for path in sorted((self.root / one.name).iterdir())
            if not path.name.startswith(".") and (path / MANIFEST).is_file()
        ]

    def folder_of(self, id_or_prefix: str) -> tuple[Kind[Any], Path]:
        """Return kind and folder of the entry whose id is, or uniquely begins with, the given text, whatever its state.

        Raises
        ------
        InputError
            No entry or several begin with it.
        """
        return self._named(id_or_prefix, None)

    def open(self, path: Path, kind: Kind[F]) -> Entry[F]:
        """Open an entry without looking at its files.

        Raises
        ------
        DataError
            Its manifest is damaged, or of another version.
        """
        text = (path / MANIFEST).read_bytes()
        try:
            manifest = Manifest.model_validate_json(text)
            if not seals(manifest.checksum, text):
                raise ValueError("its checksum differs")
            if manifest.layout == LAYOUT and manifest.stage_version == kind.version:
                return Entry(path, manifest, kind.facts.model_validate(manifest.facts))
        except ValueError as error:
            if not _of_another_version(text):
                raise DataError(
                    f"the manifest of {path} is damaged; delete this directory and run the same command again."
                ) from error
        raise OutdatedError(
            f"{path.parent.name}/{path.name} was written by another version of fqbench, in another format; "
            f"make it again with: {_command(text)}"
        )

    def _outdated(self, kind: Kind[Any], path: Path) -> bool:
        try:
            self.open(path, kind)
        except OutdatedError:
            return True
        except DataError:
            return False
        return False

    def _checked(self, path: Path, kind: Kind[F]) -> Entry[F]:
        entry = self.open(path, kind)
        contents.check(self.root, path, entry.manifest.files)
        return entry

    def _folder(self, derivation: Derivation[Any]) -> Path:
        return self.root / derivation.kind.name / derivation.id

    def _scratch(self, derivation: Derivation[Any]) -> Path:
        return self.root / derivation.kind.name / f".{derivation.id}.scratch"

    @contextmanager
    def making(self, kind: str, name: str) -> Iterator[None]:
        """Hold the lock of one entry: whoever has it is the only one that writes the entry."""
        (self.root / kind).mkdir(parents=True, exist_ok=True)
        locks = self.root / LOCKS
        locks.mkdir(exist_ok=True)
        with self.held(locks / f"{kind}-{name}.lock", f"another process that is making {kind}/{name}"):
            yield

    @contextmanager
    def held(self, path: Path, by: str) -> Iterator[None]:
        """Hold a lock file of this workspace; if another process (``by``) holds it, say so and wait."""
        from filelock import FileLock, Timeout

        lock = FileLock(path)
        with self.writing():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.reporter.say(f"waiting for {by}")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn failures to write into this workspace into a WorkspaceError."""
        try:
            yield
        except OSError as error:
            # Unreadable images, lost connections and missing inputs are OSErrors, too: those are the build's own.
            place = self.root if error.filename is None else Path(str(error.filename))
            ours = place.is_relative_to(self.root) or self.root.is_relative_to(place)
            if error.errno not in WRITE_FAILURES or not ours:
                raise
            raise WorkspaceError(
                f"the workspace {self.root} cannot be written ({error.strerror or error}); "
                f"choose another with --workspace or ${ENVIRONMENT_VARIABLE}."
            ) from error


def kinds_of(kind: Kind[Any] | str | Sequence[Kind[Any]] | None) -> Sequence[Kind[Any]]:
    """Return the kinds that are meant: one, several, or all."""
    if isinstance(kind, str):
        return (kind_named(kind),)
    return KINDS if kind is None else (kind,) if isinstance(kind, Kind) else kind


def _fill(
    partial: Path, derivation: Derivation[F], build: Callable[[Path], F], config: Mapping[str, Any]
) -> tuple[Manifest, F]:
    start = time.monotonic()
    facts = build(partial)
    if not isinstance(facts, derivation.kind.facts):
        raise TypeError(f"{type(facts).__name__} are not the facts of {derivation.kind.name}")
    paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
    files = {str(path.relative_to(partial)): contents.record_of(path) for path in paths}
    if len(paths) > MANY_FILES:
        os.sync()
    else:
        for path in paths:
            sync(path)
    manifest = Manifest(
        checksum=UNSEALED,
        layout=LAYOUT,
        id=derivation.id,
        kind=derivation.kind.name,
        stage_version=derivation.kind.version,
        determined_by=dict(derivation.determined_by),
        inputs=dict(derivation.inputs),
        config=dict(config),
        command=shlex.join(sys.argv),
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        seconds=round(time.monotonic() - start, 3),
        files=files,
        digest=digest_of(files),
        facts=facts.plain(),
    )
    text = manifest.sealed()
    target = partial / MANIFEST
    target.write_bytes(text)
    sync(target)
    sync(partial)
    # Read back, so that the facts are the same on the first run as on every later one.
    written = Manifest.model_validate_json(text)
    return written, derivation.kind.facts.model_validate(written.facts)


def _ends_with(name: str, asked: str) -> bool:
    """Whether the hash at the end of an id begins with the text, as tables show it: ``c9b5`` or ``#c9b5``."""
    start = asked.removeprefix("#")
    return len(start) >= SHORTEST_HASH and name.rpartition("-")[2].startswith(start)


def _of_another_version(text: bytes) -> bool:
    """Whether a text is a complete manifest of another version of fqbench; the first had no checksum."""
    try:
        values = json.loads(text)
    except ValueError:
        return False
    if not isinstance(values, dict) or not {"id", "kind", "determined_by", "files"} <= values.keys():
        return False
    if "checksum" in values or "layout" in values:
        return seals(str(values.get("checksum")), text)
    return "details" in values


def _command(text: bytes) -> str:
    command = json.loads(text).get("command")
    return str(command) if command else "the command that made it."
