"""Pages: their sections are functions of what was gathered from the workspace; nothing is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fqbench.errors import InputError
from fqbench.report.page.contents import PageContents
from fqbench.report.page.evaluations import evaluation_page, page_document
from fqbench.report.page.material import TAKEN, Material, gather
from fqbench.report.page.studies import gather_study, study_page
from fqbench.workspace.kinds import STUDIES

if TYPE_CHECKING:
    from fqbench.workspace import Workspace

__all__ = ["Material", "evaluation_page", "gather", "page_document", "page_of", "study_page"]


def page_of(workspace: Workspace, ids: Sequence[str]) -> PageContents:
    """Return the report on the entries that are named, or on the newest evaluation.

    Parameters
    ----------
    workspace : Workspace
        Where they are.
    ids : sequence of str
        One study; or evaluations and at most one measurement of latency.

    Raises
    ------
    InputError
        There is no such entry, or a study is named with something else.
    UnavailableError
        A library of the extra ``report`` is not installed.
    """
    named = [workspace.get(one, (*TAKEN, STUDIES)) for one in ids]
    studies = [entry.id for entry in named if entry.kind == STUDIES.name]
    if not studies:
        return evaluation_page(gather(workspace, ids))
    if len(named) > 1:
        raise InputError(f"{studies[0]} is a study, which has a page of its own; name it alone.")
    return study_page(gather_study(workspace, studies[0]))
