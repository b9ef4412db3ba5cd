"""Names of artifacts in a document: short and unique; notes about several artifacts are merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fqbench.report.document import Note, Sheet

SHORTEST_ID = 4


def short_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the hash of each id, as short as is unique.

    Parameters
    ----------
    ids : sequence of str
        As in the workspace: a slug, a hyphen and a hash. Equal ids have equal short ones.
    """
    tails = [identity.rpartition("-")[2] for identity in ids]
    for length in range(SHORTEST_ID, max(map(len, tails), default=0)):
        if len({tail[:length] for tail in tails}) == len(set(ids)):
            return tuple(tail[:length] for tail in tails)
    return tuple(tails if len(set(tails)) == len(set(ids)) else ids)


def short_names(labels: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each artifact: its label without a shared backend, with a short id if labels collide.

    Parameters
    ----------
    labels, ids : sequence of str
        Of the artifacts of one document, in one order: ``ort int8/balanced``.
    """
    names = list(labels)
    first = {label.partition(" ")[0] for label in labels}
    if len(labels) > 1 and len(first) == 1 and all(" " in label for label in labels):
        names = [label.partition(" ")[2] for label in labels]
    seen = Counter(names)
    return tuple(
        f"{name} #{short}" if seen[name] > 1 else name for name, short in zip(names, short_ids(ids), strict=True)
    )


def legend(names: Sequence[str], ids: Sequence[str], facts: Mapping[str, Sequence[str]]) -> Sheet:
    """Return the sheet that maps names to entries of the workspace.

    Parameters
    ----------
    names, ids : sequence of str
        Of each artifact.
    facts : mapping
        More columns: what they are called, and a cell per artifact.
    """
    return Sheet("artifacts", ("artifact", "id", *facts), tuple(zip(names, ids, *facts.values(), strict=True)))


def said_once(remarks: Iterable[tuple[str, str]], everyone: Sequence[str], *, warning: bool = True) -> tuple[Note, ...]:
    """Return one note per text, with the names of all that it is about.

    Parameters
    ----------
    remarks : iterable of (name, text)
        The remarks and the names they are about.
    everyone : sequence of str
        All names of the document; a text about all of them is said without names.
    warning : bool
        Whether the notes are warnings.
    """
    about: dict[str, list[str]] = {}
    for name, text in remarks:
        if name not in about.setdefault(text, []):
            about[text].append(name)
    return tuple(
        Note(text if set(names) == set(everyone) else f"{', '.join(names)}: {text}", warning)
        for text, names in about.items()
    )
