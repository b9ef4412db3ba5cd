"""The vocabulary of a workspace: kinds of entries with typed facts, what an entry is derived from, its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from fqbench.storage import text_digest

LAYOUT = 2  # of manifests; raised when what this module writes can no longer be read by what was before
UNSEALED = "0" * 64
LONGEST = 160  # bytes of a slug in a file name, which has 255: names of locks and of what is being written are longer


class Facts(BaseModel):
    """Base of the facts in a manifest: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="strings")

    def plain(self) -> dict[str, Any]:
        """Return JSON values; NaN and infinity are text."""
        values: dict[str, Any] = json.loads(self.model_dump_json())
        return values


F = TypeVar("F", bound=Facts)
F_co = TypeVar("F_co", bound=Facts, covariant=True, default=Facts)


@dataclass(frozen=True)
class Kind(Generic[F_co]):
    """A kind of entry.

    Attributes
    ----------
    name : str
        Folder in the workspace.
    version : int
        Version of the stage that writes it, part of every id; raised when its result would change.
    facts : type
        What the stage found out.
    """

    name: str
    version: int
    facts: type[F_co]


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """The description of an entry and of everything it was derived from.

    Attributes
    ----------
    checksum : str
        SHA-256 of this manifest's text with 64 zeros in this place.
    layout : int
        Version of this list of fields.
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
    facts : dict
        What the stage found out, as JSON values; `Entry.facts` has them typed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checksum: str
    layout: int
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
    facts: dict[str, Any]

    def sealed(self) -> bytes:
        """Return the manifest's text with its checksum in it."""
        text = self.model_copy(update={"checksum": UNSEALED}).model_dump_json(indent=2) + "\n"
        return text.replace(UNSEALED, text_digest(text), 1).encode()


@dataclass(frozen=True)
class Entry(Generic[F_co]):
    """A finished directory of the workspace."""

    path: Path
    manifest: Manifest
    facts: F_co

    @property
    def id(self) -> str:
        """Readable slug and short hash."""
        return self.manifest.id

    @property
    def kind(self) -> str:
        """Name of its kind."""
        return self.manifest.kind

    @property
    def digest(self) -> str:
        """SHA-256 over its files."""
        return self.manifest.digest

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name


@dataclass(frozen=True)
class Derivation(Generic[F_co]):
    """Everything that determines an entry.

    Attributes
    ----------
    kind : Kind
        What is to be made.
    slug : str
        Readable beginning of the id.
    determined_by : mapping
        JSON values; the id is a hash of them, of the kind and of its version.
    inputs : mapping
        Ids of the entries it is made of, for the reader of the manifest.
    """

    kind: Kind[F_co]
    slug: str
    determined_by: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def id(self) -> str:
        """Slug and ten hexadecimal digits."""
        return derived_id(self.kind.name, self.kind.version, self.slug, self.determined_by)


def derived_id(kind: str, version: int, slug: str, determined_by: Mapping[str, Any]) -> str:
    """Return the id that a derivation has: its slug, cut if it is very long, and ten digits of a hash of the rest."""
    text = json.dumps([LAYOUT, kind, version, determined_by], sort_keys=True, default=str)
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in slug)
    plain = plain.encode(errors="replace")[:LONGEST].decode(errors="ignore").strip("-.")
    return f"{plain}-{text_digest(text)[:10]}"


def seals(checksum: str, text: bytes) -> bool:
    """Whether a manifest's text is as it was written with this checksum in it."""
    return text_digest(text.replace(checksum.encode(), UNSEALED.encode(), 1)) == checksum


def digest_of(files: Mapping[str, FileRecord]) -> str:
    """Return the digest of an entry with these files."""
    return text_digest("\n".join(f"{name} {record.sha256}" for name, record in files.items()))
