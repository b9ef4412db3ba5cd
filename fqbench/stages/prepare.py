"""Prepare: every picture decoded once, at the size of a model, into a store that all later stages share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.config import Preprocessing, size_text
from fqbench.data import images
from fqbench.data.images import PreparedImages
from fqbench.data.samples import Samples
from fqbench.errors import DataError
from fqbench.run import Run
from fqbench.stages.read import READ_BY, read, read_entry
from fqbench.storage import text_digest
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import PREPARED, PreparedFacts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Prepared:
    """The store of a data set for one preprocessing, and its entry in the workspace."""

    images: PreparedImages
    entry: Entry[PreparedFacts]

    def readable(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        """Return those rows of ``frame`` whose pictures could be decoded, and their rows in the store."""
        rows = self.images.rows_of(frame["sample_id"].tolist())
        return frame[rows >= 0], rows[rows >= 0]


def prepare(run: Run, preprocessing: Preprocessing) -> Prepared:
    """Return the prepared store of the configured data set for one preprocessing.

    Raises
    ------
    DataError
        Pictures are missing, or more than 1 % cannot be decoded.
    """
    geometry = preprocessing.model_dump(include={"size", "fit", "crop", "interpolation"})
    return run.once(f"prepared {preprocessing}", READ_BY, lambda: _prepare(run, preprocessing, geometry))


def _prepare(run: Run, preprocessing: Preprocessing, geometry: dict[str, object]) -> Prepared:
    samples, source = read(run), read_entry(run)
    derivation = Derivation(
        kind=PREPARED,
        slug=f"{samples.name}-{size_text(preprocessing.size)}px",
        determined_by={"samples": source.digest, "pictures": fingerprint(samples), **geometry},
        inputs={"samples": source.id},
    )

    def write(out: Path) -> PreparedFacts:
        scratch = run.workspace.scratch(derivation)
        facts = images.write_store(
            samples.frame, samples.pictures, preprocessing, out, scratch=scratch, reporter=run.reporter
        )
        return PreparedFacts.model_validate(facts)

    size = size_text(preprocessing.size)
    entry = run.produce(derivation, write, f"decoding {len(samples.frame)} pictures to {size} pixels")
    unreadable = entry.facts.unreadable
    if unreadable:
        first = ", ".join(entry.facts.unreadable_first[:3])
        run.reporter.say(f"{unreadable} picture(s) cannot be decoded and are left out: {first}; see {entry.path}")
    return Prepared(images.open_store(entry.path, preprocessing), entry)


def fingerprint(samples: Samples) -> str:
    """Return SHA-256 over path, size and time of change of every picture: a replaced picture is decoded again.

    A file that cannot be reached (a link to nowhere, a folder without permission) counts as one that cannot be decoded.

    Raises
    ------
    DataError
        Pictures are no longer there.
    """
    found, missing = [], []
    for path in samples.files:
        file = f"{samples.root}/{path}"
        try:
            status = os.stat(file)  # noqa: PTH116 - quicker than a Path per picture
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not os.path.islink(file):  # noqa: PTH114
                missing.append(path)
            else:
                found.append(f"{path}\tunreadable\n")
            continue
        found.append(f"{path}\t{status.st_size}\t{status.st_mtime_ns}\n")
    if missing:
        names = ", ".join(missing[:3])
        raise DataError(
            f"{len(missing)} picture(s) of {samples.name} are missing in {samples.root}: {names}; bring them back."
        )
    return text_digest("".join(found))
