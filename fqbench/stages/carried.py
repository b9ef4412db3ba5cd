"""What an archive from another machine says, checked before it is used: its hashes hold, but somebody else wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fqbench.config import Preprocessing
from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.contracts.scheme import Scheme
from fqbench.contracts.task import PredictionTask
from fqbench.errors import DataError
from fqbench.machine import Machine
from fqbench.pack import Pack

PlainName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # it becomes the name of a folder
Count = Annotated[int, Field(ge=1)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ArtifactSaid(_Said):
    """An artifact, as `fqbench.contracts.artifacts.Artifact.to_dict` returns it."""

    id: PlainName
    digest: str
    backend: str
    scheme: Scheme
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    details: dict[str, Any]
    sampler: str = ""
    model_id: str = ""
    model_digest: str = ""
    batch: Count | None = None
    task: PredictionTask = PredictionTask.CLASSES


class DataSaid(_Said):
    """The data set and the split that the images are of."""

    name: str
    split: str
    samples: str
    samples_digest: str
    prepared: str
    prepared_digest: str
    notice: str


class MeasuredSaid(_Said):
    """How one artifact was executed."""

    runtime: str
    level: Level
    device: str
    device_name: str
    options: dict[str, Any]
    built_for: dict[str, Any]
    threads: Count
    batch_size: Count
    arithmetic: Arithmetic


class PackSaid(_Said):
    """The facts of a pack."""

    artifacts: Annotated[tuple[ArtifactSaid, ...], Field(min_length=1)]
    data: DataSaid
    preprocessing: Preprocessing
    batch_size: Count


class ResultSaid(PackSaid):
    """The facts of a result."""

    pack: str
    measured: tuple[MeasuredSaid, ...]
    machine: Machine
    versions: dict[str, str]
    bench: dict[str, Any]


Checked = TypeVar("Checked", bound=PackSaid)


def check_said(opened: Pack, kind: type[Checked], fixed: Iterable[str], of_each: str = "") -> Checked:
    """Return the facts of an archive, checked, as are the files that they are about.

    Parameters
    ----------
    opened : Pack
        The archive.
    kind : type
        What its facts are to be.
    fixed : iterable of str
        Files that it has to hold.
    of_each : str
        The file of each artifact, with ``{}`` for its number; by default those that the artifact lists.

    Raises
    ------
    DataError
        A fact is missing or of another type, or a file is missing.
    """
    try:
        said = kind.model_validate(opened.facts)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise DataError(
            f"the archive is damaged, or another program wrote it ({place}: {problem['msg']}); make it again."
        ) from error
    needed = list(fixed)
    for number, artifact in enumerate(said.artifacts):
        own = [of_each.format(number)] if of_each else [f"artifact{number}/{name}" for name in artifact.files]
        needed += own
    missing = [name for name in needed if name not in opened.facts["files"]]
    if missing:
        raise DataError(f"the archive has no {missing[0]}, which it needs; make it again.")
    return said
