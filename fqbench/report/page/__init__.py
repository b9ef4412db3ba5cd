"""Pages: their sections are functions of what was gathered from the workspace; nothing is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import InputError
from fqbench.report.page.contents import PageContents
from fqbench.report.page.evaluations import evaluation_page, page_document
from fqbench.report.page.material import TAKEN, Material, gather
from fqbench.report.page.searches import gather_search, search_page
from fqbench.report.page.studies import StudyMaterial, gather_study, study_page
from fqbench.report.page.study_cards import study_cards
from fqbench.study.opening import table_at
from fqbench.workspace.kinds import SEARCHES, STUDIES

if TYPE_CHECKING:
    from fqbench.workspace import Workspace

__all__ = ["Material", "evaluation_page", "gather", "page_document", "page_of", "study_page", "table_page"]


def table_page(file: Path) -> PageContents:
    """Return the report on a study's table that was made anywhere; without its workspace there are no model cards.

    Raises
    ------
    InputError
        There is no such file.
    DataError
        It is not a study's table, or one of another version.
    """
    return study_page(StudyMaterial(None, table_at(file), (), ()))


def page_of(workspace: Workspace, ids: Sequence[str]) -> PageContents:
    """Return the report on the entries that are named, or on the newest evaluation.

    Parameters
    ----------
    workspace : Workspace
        Where they are.
    ids : sequence of str
        One study or one search; or evaluations and at most one measurement of latency.

    Raises
    ------
    InputError
        There is no such entry, or a study or search is named with something else.
    UnavailableError
        A library of the extra ``report`` is not installed.
    """
    named = [workspace.get(one, (*TAKEN, STUDIES, SEARCHES)) for one in ids]
    alone = [entry for entry in named if entry.kind in {STUDIES.name, SEARCHES.name}]
    if not alone:
        return evaluation_page(gather(workspace, ids))
    entry = alone[0]
    if len(named) > 1:
        what = "study" if entry.kind == STUDIES.name else "search"
        raise InputError(f"{entry.id} is a {what}, which has a page of its own; name it alone.")
    if entry.kind == SEARCHES.name:
        return search_page(gather_search(workspace, entry.id))
    study = gather_study(workspace, entry.id)
    return study_page(study, study_cards(workspace, study))
