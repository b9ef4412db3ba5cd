"""Read: a data set's folder becomes the table of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fqbench.config import DataOptions, outputs_named
from fqbench.data import celeba, fairface, folder, hf, imagefolder, synthfaces, table, utkface
from fqbench.data.attributes import asked_labels
from fqbench.data.samples import Attribute, Problem, Samples
from fqbench.errors import InputError, did_you_mean
from fqbench.run import Run
from fqbench.storage import file_digest, text_digest
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import DATASETS, SAMPLES, AttributeFacts, DatasetFacts, ProblemFacts, SamplesFacts

TABLE = "samples.parquet"
READ_BY = ("data", "model")
TREES = ("folder", "imagefolder", "table", "hf", "celeba", "utkface", "fairface")
SEVERAL = ("folder", "table", "hf", "celeba")  # read several labels
# What the folder of each data set has to hold.
HOLDING = {
    "folder": "with DIR/metadata.csv in it",
    "imagefolder": "with DIR/CLASS/ or DIR/train/CLASS/ in it",
    "hf": "as save_to_disk wrote it, or with .parquet files in it",
    "celeba": "with DIR/img_align_celeba and DIR/list_attr_celeba.txt in it",
    "utkface": "with the pictures or their parts in it",
    "fairface": "with train/, val/ and fairface_label_train.csv in it",
}
LABELLED = tuple(name for name in TREES if name != imagefolder.NAME)
# Which data sets take an option that not all of them take.
OPTIONS_OF = {
    "root": TREES,
    "table": ("table", "imagefolder"),
    "image_column": ("table", "imagefolder", "hf"),
    "split_column": ("table", "hf"),
    "label": LABELLED,
    "label_threshold": ("folder", "table", "hf"),
    "sensitive": TREES,
    "age_groups": ("utkface",),
    "padding": ("fairface",),
}


def read(run: Run) -> Samples:
    """Return the configured data set, drawn first if it is synthfaces.

    Raises
    ------
    InputError
        An unknown data set, or options that do not belong to it.
    """
    return run.once("samples", READ_BY, lambda: open_samples(read_entry(run)))


def read_entry(run: Run) -> Entry[SamplesFacts]:
    """Return the workspace's entry of the table of samples."""
    return run.once("samples entry", READ_BY, lambda: _read_entry(run))


def _read_entry(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    check_data(asked)
    read_one = READERS[asked.name]
    label = label_of(run)
    return read_one(run if label == asked.label else run.with_options("data", label=label))


def label_of(run: Run) -> str | None:
    """Return the label asked for; where none is, the attributes of ``--column`` that are no sensitive features."""
    return run.once("label", READ_BY, lambda: _label(run))


def _label(run: Run) -> str | None:
    asked, columns = run.config.data, run.config.model.column
    if columns is None or asked.label is not None:
        return asked.label
    names = outputs_named(columns)
    if not isinstance(columns, Path):
        return ",".join(names)
    kept = celeba.SENSITIVE_FEATURES if asked.name == celeba.NAME and asked.sensitive is None else asked.sensitive or ()
    left_out = [name for name in names if name in kept]
    if left_out:
        run.reporter.say(f"{', '.join(left_out)}: left out of the attributes, because the groups are made of them")
    return ",".join(name for name in names if name not in left_out)


def open_samples(entry: Entry[SamplesFacts]) -> Samples:
    """Open a table that this stage wrote."""
    import pandas as pd

    facts = entry.facts
    return Samples(
        name=facts.name,
        root=Path(facts.root),
        frame=pd.read_parquet(entry.file(TABLE)),
        classes=facts.classes,
        sensitive_features=facts.sensitive_features,
        notice=facts.notice,
        image_column=facts.image_column,
        attributes=tuple(Attribute(one.name, one.classes) for one in facts.attributes),
        problems=tuple(Problem(problem.what, problem.count, problem.first) for problem in facts.problems),
    )


def check_data(asked: DataOptions, *, files: bool = True) -> None:
    """Check the name of a data set, the options that belong to it, and with ``files`` that its folder and table exist.

    Raises
    ------
    InputError
        The name is unknown, an option is for other data sets, or there is no such folder or table.
    """
    name = asked.name
    if name not in READERS:
        raise InputError(f"unknown data set {name!r}: {did_you_mean(name, READERS)}")
    for option, data in OPTIONS_OF.items():
        if getattr(asked, option) is not None and name not in data:
            flag = "--" + option.replace("_", "-")
            if name == synthfaces.NAME:
                raise InputError(
                    f"{flag} does not apply to {name}, which are drawn; use --data folder for your own images."
                )
            raise InputError(f"{flag} does not apply to {name}; it is for {', '.join(data)}.")
    if name not in SEVERAL and len(asked_labels(asked.label)) > 1:
        raise InputError(f"--label {asked.label}: {name} has one label; several are for {', '.join(SEVERAL)}.")
    if name != table.NAME:
        _count(asked)
    if files:
        _check_files(asked)


def _check_files(asked: DataOptions) -> None:
    if asked.name == table.NAME:
        path, root = _table_and_folder(asked)
        table.check_table(path)
        table.check_folder(root)
        return
    if asked.table is not None:
        table.check_table(asked.table)
    if asked.name in HOLDING and not (root := _root(asked)).is_dir():
        raise InputError(f"{asked.name}: there is no folder {root}; check --root DIR, {HOLDING[asked.name]}.")


def _count(asked: DataOptions) -> int:
    """Return how many images to draw; a folder in its place is for tables."""
    if not isinstance(asked.images, int):
        raise InputError(
            f"--images {asked.images}: a folder goes with --table FILE; without one, give a number from 1."
        )
    return asked.images


def _read_synthfaces(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    options = synthfaces.SynthfacesOptions(
        images=_count(asked),
        test_images=asked.test_images,
        size=asked.size,
        imbalance=asked.imbalance,
        test_imbalance=asked.test_imbalance,
        seed=asked.seed,
    )
    total = options.count("images") + options.count("test")
    derivation = Derivation(
        kind=DATASETS,
        slug=f"synthfaces-{options.images}x{options.size}",
        determined_by={**asdict(options), "test_images": options.count("test")},
        inputs={},
    )

    def draw(out: Path) -> DatasetFacts:
        with run.reporter.track("drawing faces", total, "images") as advance:
            done = 0

            def told(written: int) -> None:
                nonlocal done
                advance(written - done)
                done = written

            synthfaces.draw(options, out, told)
        return DatasetFacts(notice=synthfaces.NOTICE)

    drawn = run.produce(derivation, draw, f"drawing {total} synthfaces ({synthfaces.NOTICE})")
    return _table(
        run, lambda: synthfaces.read(drawn.path, seed=asked.seed), {"drawn": drawn.digest}, {"dataset": drawn.id}
    )


def _read_folder(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    return _table(
        run,
        lambda: folder.read_folder(
            root, label=asked.label, sensitive=asked.sensitive, seed=asked.seed, threshold=asked.label_threshold
        ),
        {"root": str(root), "metadata": _content(root / folder.METADATA), **_choices(asked)},
        {},
    )


def _read_celeba(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    files = celeba.find_files(root)
    tables = {"attributes": _content(files.attributes), "partition": _content(files.partition)}
    return _table(
        run,
        lambda: celeba.read_celeba(root, label=asked.label, sensitive=asked.sensitive),
        {"root": str(root), "pictures": str(files.pictures), **tables, "label": asked.label, "by": asked.sensitive},
        {},
    )


def _read_utkface(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    names = utkface.picture_names(root)
    listing = _listing(names)

    def make() -> Samples:
        return utkface.read_utkface(
            root,
            names,
            label=asked.label,
            sensitive=asked.sensitive,
            age_groups=asked.age_groups,
            seed=asked.seed,
        )

    options = {**_choices(asked), "age_groups": asked.age_groups}
    return _table(run, make, {"root": str(root), "names": listing, **options}, {})


def _read_fairface(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    files = fairface.find_files(root, asked.padding)

    def make() -> Samples:
        return fairface.read_fairface(
            root, label=asked.label, sensitive=asked.sensitive, padding=asked.padding, seed=asked.seed
        )

    tables = {name: _content(path) for name, path in files.tables.items()}
    return _table(run, make, {"root": str(root), "pictures": str(files.pictures), **tables, **_choices(asked)}, {})


def _read_imagefolder(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    names = imagefolder.picture_names(root)

    def make() -> Samples:
        return imagefolder.read_imagefolder(
            root, names, table=asked.table, sensitive=asked.sensitive, image=asked.image_column, seed=asked.seed
        )

    found = {"names": _listing(names), "table": _content(asked.table) if asked.table else None}
    return _table(run, make, {"root": str(root), **found, **_choices(asked), "image": asked.image_column}, {})


def _read_table(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    path, root = _table_and_folder(asked)

    def make() -> Samples:
        return table.read_table(
            path,
            root,
            label=asked.label,
            sensitive=asked.sensitive,
            image=asked.image_column,
            split=asked.split_column,
            seed=asked.seed,
            threshold=asked.label_threshold,
        )

    columns = {"image": asked.image_column, "split": asked.split_column}
    return _table(run, make, {"root": str(root), "table": _content(path), **_choices(asked), **columns}, {})


def _read_hf(run: Run) -> Entry[SamplesFacts]:
    asked = run.config.data
    root = _root(asked)
    shards = hf.find_shards(root)

    def make() -> Samples:
        return hf.read_hf(
            root,
            shards,
            label=asked.label,
            sensitive=asked.sensitive,
            image=asked.image_column,
            split=asked.split_column,
            seed=asked.seed,
            threshold=asked.label_threshold,
        )

    # Size and time of change, as for every picture: the files hold the images and may be larger than memory.
    stats = [(root / shard.path).stat() for shard in shards]
    files = [f"{shard.path} {stat.st_size} {stat.st_mtime_ns}" for shard, stat in zip(shards, stats, strict=True)]
    columns = {"image": asked.image_column, "split": asked.split_column}
    return _table(run, make, {"root": str(root), "files": _listing(files), **_choices(asked), **columns}, {})


def _table_and_folder(asked: DataOptions) -> tuple[Path, Path]:
    if asked.table is None:
        raise InputError("--data table needs a table of the images: add --table FILE, a .csv, .tsv or .parquet file.")
    given = asked.root if isinstance(asked.images, int) else asked.images
    if given is None:
        raise InputError(f"--table {asked.table} needs the folder of the images: add --images DIR.")
    return asked.table, given.absolute()


def _listing(names: Sequence[str]) -> str:
    return text_digest("\n".join(names).encode(errors="surrogateescape"))


def _root(asked: DataOptions) -> Path:
    if asked.root is None:
        raise InputError(f"--data {asked.name} needs the folder of the images: add --root DIR, {HOLDING[asked.name]}.")
    return asked.root.absolute()


def _content(path: Path) -> str:
    return file_digest(path) if path.is_file() else ""


def _choices(asked: DataOptions) -> dict[str, object]:
    threshold = {} if asked.label_threshold is None else {"label_threshold": asked.label_threshold}
    return {"label": asked.label, "sensitive": asked.sensitive, "seed": asked.seed, **threshold}


def _table(
    run: Run, parse: Callable[[], Samples], determined_by: dict[str, object], inputs: dict[str, str]
) -> Entry[SamplesFacts]:
    def write(out: Path) -> SamplesFacts:
        samples = parse()
        samples.frame.to_parquet(out / TABLE, index=False)
        return SamplesFacts(
            name=samples.name,
            root=str(samples.root),
            classes=samples.classes,
            sensitive_features=samples.sensitive_features,
            notice=samples.notice,
            problems=tuple(ProblemFacts(**asdict(problem)) for problem in samples.problems),
            images=len(samples.frame),
            image_column=samples.image_column,
            digest=samples.digest,
            attributes=tuple(AttributeFacts(name=one.name, classes=one.classes) for one in samples.attributes),
        )

    name = run.config.data.name
    derivation = Derivation(SAMPLES, name, {"data": name, **determined_by}, inputs)
    return run.produce(derivation, write, f"reading the data set {name}")


READERS: Mapping[str, Callable[[Run], Entry[SamplesFacts]]] = {
    "celeba": _read_celeba,
    "fairface": _read_fairface,
    "folder": _read_folder,
    "hf": _read_hf,
    "imagefolder": _read_imagefolder,
    "synthfaces": _read_synthfaces,
    "table": _read_table,
    "utkface": _read_utkface,
}
