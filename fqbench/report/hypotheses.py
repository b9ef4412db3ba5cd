"""The answers to the hypotheses as a document."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fqbench.report.document import UNDEFINED, Document, Heading, Note, Records, Section, Sheet, notes, warnings

if TYPE_CHECKING:
    from fqbench.study.hypotheses.claims import Claim, ClaimAnswer
    from fqbench.study.hypotheses.questions import Answers

DRAWN = (
    "these pictures are drawn by a program: the answers are evidence about the pipeline, and say nothing about people."
)
SMALLEST_P = 0.001  # smaller ones are not told apart
COLUMNS = (
    *("hypothesis", "claim", "measures", "unit", "claim_low", "claim_high", "margin", "effect", "low", "high"),
    *("p_supported", "p_refuted", "answer", "seeds", "images", "seeds_needed", "images_needed", "reason", "cells"),
)


def hypotheses_document(answers: Answers) -> Document:
    """Return every hypothesis with its answer, the effects behind it, and what would decide where it is undecided."""
    rows = [_record(one) for hypothesis in answers.hypotheses for one in hypothesis.claims]
    return Document(tuple(_sections(answers)), answers.to_dict(), Records(COLUMNS, rows))


def _sections(answers: Answers) -> Iterator[Section]:
    yield Heading(f"hypotheses on the study {answers.study}")
    yield from warnings(DRAWN if answers.drawn else "")
    verdicts = tuple((one.name, one.statement, one.answer) for one in answers.hypotheses)
    yield Sheet("", ("", "hypothesis", "answer"), verdicts)
    rows = []
    for hypothesis in answers.hypotheses:
        rows += [(one.claim.hypothesis, *_cells(one)) for one in hypothesis.claims]
    headings = (
        "",
        ">claim",
        ">effect",
        "unit",
        "answer",
        ">p",
        ">cells",
        ">seeds or architectures",
        "what would decide",
    )
    yield Sheet("claims", headings, tuple(rows), notes(*explained(answers)))
    for hypothesis in answers.hypotheses:
        for one in hypothesis.claims:
            why = f" Not tested: {one.reason}." if one.reason else ""
            yield Note(f"{one.claim.hypothesis}: {one.claim.says}. Effect: {one.claim.measures}.{why}")


def explained(answers: Answers) -> Iterator[str]:
    """Yield how the columns of claims are read."""
    yield (
        "Intervals are 95 %, over training seeds and images, for the models of this study. p is that of the answer, "
        f"or the smaller one of both, corrected over all claims (Holm, {answers.alpha:g}). Margins of equivalence are "
        "in brackets behind the claim."
    )
    yield (
        "What would decide: seeds per model, or images, at 80 % power if the effect is as seen. More of one alone does "
        "not decide where the variation of the other is too large already."
    )


def _cells(one: ClaimAnswer) -> tuple[str, ...]:
    return (
        bounds_text(one.claim),
        effect_text(one),
        one.claim.unit,
        one.answer,
        p_text(one),
        str(len(one.effect.cells)),
        str(one.effect.seeds),
        needed_text(one),
    )


def bounds_text(claim: Claim) -> str:
    """Return the claimed range: ``≤ 1``, ``3 to 5 (±0.5)``."""
    margin = f" (±{claim.margin:g})" if claim.margin else ""
    if math.isinf(claim.low):
        return f"≤ {claim.high:.3g}{margin}"
    return (f"≥ {claim.low:.3g}" if math.isinf(claim.high) else f"{claim.low:.3g} to {claim.high:.3g}") + margin


def effect_text(one: ClaimAnswer) -> str:
    """Return the effect with its interval."""
    value = one.effect.value
    if math.isnan(value):
        return UNDEFINED
    return f"{value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" if math.isfinite(one.low) else f"{value:+.2f}"


def p_text(one: ClaimAnswer) -> str:
    """Return the p-value of the answer, or the smaller one of both where there is none."""
    known = [p for p in (one.p_supported, one.p_refuted) if not math.isnan(p)]
    if not known:
        return "-"
    return f"{min(known):.3f}" if min(known) >= SMALLEST_P else f"< {SMALLEST_P}"


def needed_text(one: ClaimAnswer) -> str:
    """Return what would decide: so many seeds or images, or that more of one alone would not."""
    known = [(one.seeds_needed, one.claim.varies), (one.images_needed, "images")]
    enough = " or ".join(f"{needed:,.0f} {what}" for needed, what in known if math.isfinite(needed))
    idle = [what for needed, what in known if math.isinf(needed)]
    if len(idle) > 1:
        return f"more {' and more '.join(idle)} together; neither alone would decide"
    if not idle:
        return enough or "-"
    alone = f"more {idle[0]} alone would not decide"
    return f"{enough}; {alone}" if enough else alone


def _record(one: ClaimAnswer) -> tuple[object, ...]:
    claim, effect = one.claim, one.effect
    said = (claim.hypothesis, claim.says, claim.measures, claim.unit, claim.low, claim.high, claim.margin)
    tested = (effect.value, one.low, one.high, one.p_supported, one.p_refuted, one.answer, effect.seeds, effect.images)
    return (*said, *tested, one.seeds_needed, one.images_needed, one.reason, " ".join(effect.cells))
