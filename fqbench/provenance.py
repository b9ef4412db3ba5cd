"""Provenance checks: classes that must agree, and differences from the data that an artifact was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fqbench.errors import InputError
from fqbench.workspace import OutdatedError

if TYPE_CHECKING:
    from fqbench.config import PreprocessingOptions
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.data.samples import Samples
    from fqbench.workspace import Entry, Workspace

SHOWN = 12


def require_same_classes(model: ExportedModel, samples: Samples) -> None:
    """Check that a model has the classes of a data set, in the same order.

    Raises
    ------
    InputError
        It does not; both lists are named.
    """
    if (model.classes, model.task) != (samples.classes, samples.task):
        raise InputError(
            f"the model {model.name} predicts {_listed(model.classes)}, but the data set {samples.name} has the "
            f"{samples.task.value} {_listed(samples.classes)}; choose the data it was made for with --data, "
            "--root and --label."
        )


def ancestors(workspace: Workspace, entry: Entry, kind: str) -> tuple[list[Entry], tuple[str, ...]]:
    """Find the nearest ancestors of an entry of one kind; their files are not checked.

    Returns
    -------
    list of Entry
        In the order found.
    tuple of str
        Ids of those that another version of fqbench wrote, of any kind: what they were made of is not followed.
    """
    found: dict[str, Entry] = {}
    outdated: list[str] = []
    seen: set[str] = set()
    waiting = list(entry.manifest.inputs.values())
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        place = workspace.located(name)
        if place is None:
            continue  # it was removed; what is left still tells
        form, path = place
        try:
            one = workspace.open(path, form)
        except OutdatedError:
            outdated.append(name)
            continue
        if one.manifest.kind == kind:
            found[one.id] = one
        else:
            waiting += one.manifest.inputs.values()
    return list(found.values()), tuple(outdated)


def differences(workspace: Workspace, artifact: Entry, samples: Entry) -> tuple[str, ...]:
    """Describe how the data of an evaluation differ from those that the artifact was made with.

    Parameters
    ----------
    workspace : Workspace
        Holds what the artifact was made of.
    artifact : Entry
        The artifact.
    samples : Entry
        The table of samples that it is evaluated on.

    Returns
    -------
    tuple of str
        One sentence for each difference; empty where nothing differs, or nothing is known.
    """
    sources, outdated = ancestors(workspace, artifact, "samples")
    if samples.id in {source.id for source in sources}:
        return ()
    now = _asked(samples)
    told = [
        f"{artifact.id} was made with {name} of another version of fqbench, which is not compared with the data now."
        for name in outdated
    ]
    for source in sources:
        then = _asked(source)
        parts = [
            f"{what} {then.get(key)}, not {now.get(key)}"
            for what, key in (("data set", "name"), ("label column", "label"), ("folder", "root"))
            if then.get(key) != now.get(key)
        ]
        changed = "; ".join(parts) or f"the same data set with other contents or options ({source.id})"
        told.append(f"{artifact.id} was made with: {changed}.")
    return tuple(dict.fromkeys(told))


def preprocessing_differences(model: ExportedModel, asked: PreprocessingOptions) -> tuple[str, ...]:
    """Describe requested preprocessing that differs from the model's own, which is always used."""
    own = model.preprocessing.model_dump()
    differing = {
        name: value
        for name, value in asked.model_dump(exclude_none=True).items()
        if name in own and _plain(own[name]) != _plain(value)
    }
    return tuple(
        f"{model.name} was made with {name} {own[name]}, which is used instead of {value}."
        for name, value in differing.items()
    )


def _asked(entry: Entry) -> dict[str, object]:
    return dict(entry.manifest.config.get("data", {}))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _listed(classes: tuple[str, ...]) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return "[" + ", ".join(classes[:SHOWN]) + more + "]"
