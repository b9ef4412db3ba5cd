"""The workspace: content-derived ids, atomically published directories, typed manifests and locks."""

from __future__ import annotations

from fqbench.workspace.entries import Derivation, Entry, Facts, FileRecord, Kind, Manifest
from fqbench.workspace.kinds import KINDS, kind_named
from fqbench.workspace.store import DEFAULT_ROOT, ENVIRONMENT_VARIABLE, MANIFEST, OutdatedError, Workspace

__all__ = [
    "DEFAULT_ROOT",
    "ENVIRONMENT_VARIABLE",
    "KINDS",
    "MANIFEST",
    "Derivation",
    "Entry",
    "Facts",
    "FileRecord",
    "Kind",
    "Manifest",
    "OutdatedError",
    "Workspace",
    "kind_named",
]
