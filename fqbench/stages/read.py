"""Read: a data set's folder becomes the table of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from fqbench.config import DataOptions
from fqbench.data import folder, synthfaces
from fqbench.data.samples import Samples
from fqbench.errors import InputError, did_you_mean
from fqbench.stages.run import Run
from fqbench.workspace import Entry, Recipe

STAGE_VERSION = 1
TABLE = "samples.parquet"


def read(run: Run) -> Samples:
    """Return the configured data set, drawn first if it is synthfaces.

    Raises
    ------
    InputError
        An unknown data set, or options that do not belong to it.
    """
    return run.once("samples", lambda: open_samples(read_entry(run)))


def read_entry(run: Run) -> Entry:
    """Return the workspace's entry of the table of samples."""
    return run.once("samples entry", lambda: _reader(run.config.data.name)(run))


def open_samples(entry: Entry) -> Samples:
    """Open a table that this stage wrote."""
    import pandas as pd

    facts = entry.details
    return Samples(
        name=facts["name"],
        root=Path(facts["root"]),
        frame=pd.read_parquet(entry.file(TABLE)),
        classes=tuple(facts["classes"]),
        sensitive_features=tuple(facts["sensitive_features"]),
        notice=facts["notice"],
    )


def _reader(name: str) -> Callable[[Run], Entry]:
    if name not in READERS:
        raise InputError(f"unknown data set {name!r}: {did_you_mean(name, READERS)}")
    return READERS[name]


def _read_synthfaces(run: Run) -> Entry:
    asked = run.config.data
    stray = [name for name in ("root", "label", "sensitive") if getattr(asked, name) is not None]
    if stray:
        raise InputError(f"--{stray[0]} does not go with synthfaces, which are drawn; add --data folder for your own.")
    options = synthfaces.SynthfacesOptions(
        images=asked.images, size=asked.size, imbalance=asked.imbalance, seed=asked.seed
    )
    recipe = Recipe(
        kind="datasets",
        slug=f"synthfaces-{options.images}x{options.size}",
        version=synthfaces.STAGE_VERSION,
        determined_by={
            "images": options.images,
            "size": options.size,
            "imbalance": options.imbalance,
            "seed": options.seed,
        },
        inputs={},
    )

    def draw(out: Path) -> Mapping[str, object]:
        with run.reporter.track("drawing faces", options.images, "images") as advance:
            done = 0

            def told(written: int) -> None:
                nonlocal done
                advance(written - done)
                done = written

            synthfaces.draw(options, out, told)
        return {"notice": synthfaces.NOTICE}

    drawn = run.produce(recipe, draw, f"drawing {options.images} synthfaces ({synthfaces.NOTICE})")
    return _table(
        run, lambda: synthfaces.read(drawn.path, seed=asked.seed), {"drawn": drawn.digest}, {"dataset": drawn.id}
    )


def _read_folder(run: Run) -> Entry:
    asked = run.config.data
    if asked.root is None:
        raise InputError("--data folder needs the folder of the images: add --root DIR, with DIR/metadata.csv in it.")
    root = asked.root.absolute()
    metadata = root / folder.METADATA
    content = hashlib.sha256(metadata.read_bytes()).hexdigest() if metadata.is_file() else ""
    determined_by = {"root": str(root), "metadata": content, **_choices(asked)}
    return _table(
        run,
        lambda: folder.read_folder(root, label=asked.label, sensitive=asked.sensitive, seed=asked.seed),
        determined_by,
        {},
    )


def _choices(asked: DataOptions) -> dict[str, object]:
    return {"label": asked.label, "sensitive": asked.sensitive, "seed": asked.seed}


def _table(run: Run, make: Callable[[], Samples], determined_by: dict[str, object], inputs: dict[str, str]) -> Entry:
    def write(out: Path) -> Mapping[str, object]:
        samples = make()
        samples.frame.to_parquet(out / TABLE, index=False)
        return {
            "name": samples.name,
            "root": str(samples.root),
            "classes": list(samples.classes),
            "sensitive_features": list(samples.sensitive_features),
            "notice": samples.notice,
            "images": len(samples.frame),
            "digest": samples.digest,
        }

    name = run.config.data.name
    recipe = Recipe("samples", name, STAGE_VERSION, {"data": name, **determined_by}, inputs)
    return run.produce(recipe, write, f"reading the data set {name}")


READERS: Mapping[str, Callable[[Run], Entry]] = {"folder": _read_folder, "synthfaces": _read_synthfaces}
