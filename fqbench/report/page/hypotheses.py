"""The section on hypotheses: what a study answers, from which cells, and what would decide the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fqbench.report.document import Heading, Note, Section, Sheet, Tone, Tones, notes, warnings
from fqbench.report.hypotheses import DRAWN, bounds_text, effect_text, explained, needed_text, p_text
from fqbench.report.names import said_once

if TYPE_CHECKING:
    from fqbench.report.page.studies import Configuration, StudyMaterial
    from fqbench.study.hypotheses.claims import ClaimAnswer
    from fqbench.study.hypotheses.questions import Answers

TONES: Mapping[str, Tone] = {"supported": "good", "refuted": "bad", "undecided": "open"}
COLUMNS = (
    "claim", ">claimed", ">effect", "answer", ">p", ">cells used", ">seeds or architectures", "what would decide",
)  # fmt: skip


def hypotheses_section(material: StudyMaterial) -> Iterator[Section]:
    """Six questions of the literature: the answers, the claims that they rest on, and the cells behind each."""
    answers = material.answers
    yield Heading("Hypotheses")
    yield Note(counted(answers), sources=material.sources)
    yield from warnings(DRAWN if answers.drawn else "")
    yield answers_sheet(answers)
    claims = [one for hypothesis in answers.hypotheses for one in hypothesis.claims]
    names = _names(claims)
    rows = tuple(_row(name, one) for name, one in zip(names, claims, strict=True))
    tones = Tones(3, tuple(TONES[one.answer] for one in claims))
    why = said_once([(name, one.reason) for name, one in zip(names, claims, strict=True) if one.reason], names)
    untested = notes(*(f"Not tested: {note.text}." for note in why))
    yield Sheet("claims", COLUMNS, rows, (*notes(*explained(answers)), *untested), tones=tones, name="claims")
    yield Heading("What the effects measure", level=3, folded=True)
    measured = tuple((name, one.claim.measures, one.claim.unit) for name, one in zip(names, claims, strict=True))
    yield Sheet("", ("claim", "effect", "unit"), measured, name="effects")
    yield from _cells(names, claims, material.configurations)


def counted(answers: Answers) -> str:
    """Return how many hypotheses are supported, refuted and undecided, and which."""
    said = []
    for answer in TONES:
        found = [one.name for one in answers.hypotheses if one.answer == answer]
        said.append(f"{len(found)} {answer}" + (f" ({', '.join(found)})" if found else ""))
    return f"Of {len(answers.hypotheses)} hypotheses of the literature, this study leaves {', '.join(said)}."


def answers_sheet(answers: Answers) -> Sheet:
    """Return one row per hypothesis."""
    rows = tuple((f"{one.name}: {one.statement}", one.answer) for one in answers.hypotheses)
    tones = Tones(1, tuple(TONES[one.answer] for one in answers.hypotheses))
    return Sheet("", ("hypothesis", "answer"), rows, tones=tones, name="hypotheses")


def _names(claims: list[ClaimAnswer]) -> list[str]:
    """Name each claim by its hypothesis, with a letter where that has several."""
    names: list[str] = []
    for one in claims:
        whole = one.claim.hypothesis
        earlier = sum(name.rstrip("abc") == whole for name in names)
        several = sum(other.claim.hypothesis == whole for other in claims) > 1
        names.append(whole + ("abc"[earlier] if several else ""))
    return names


def _row(name: str, one: ClaimAnswer) -> tuple[str, ...]:
    effect, unit = one.effect, one.claim.unit
    found = effect_text(one) if math.isnan(effect.value) else f"{effect_text(one)} {unit}"
    return (
        f"{name}: {one.claim.says}", f"{bounds_text(one.claim)} {unit}", found, one.answer, p_text(one),
        str(len(effect.cells)), str(effect.seeds), needed_text(one),
    )  # fmt: skip


def _cells(names: list[str], claims: list[ClaimAnswer], known: tuple[Configuration, ...]) -> Iterator[Section]:
    used: dict[str, list[str]] = {}
    for name, one in zip(names, claims, strict=True):
        for cell in one.effect.cells:
            used.setdefault(cell, []).append(name)
    if not used:
        return
    yield Heading("Cells whose rows were used", level=3, folded=True)
    found = [one for one in known if str(one.row["cell"]) in used]
    rows = tuple((one.name, ", ".join(used[str(one.row["cell"])]), str(one.row["cell"])) for one in found)
    yield Sheet(
        "",
        ("configuration", "used for", "cell"),
        rows,
        sources=tuple(one.sources for one in found),
        name="cells-of-claims",
    )
