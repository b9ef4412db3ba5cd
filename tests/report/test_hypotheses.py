"""What would decide a claim, in words that need no explanation."""

from __future__ import annotations

import math

import pytest

from fqbench.report.hypotheses import needed_text
from fqbench.study.hypotheses.claims import Claim, ClaimAnswer
from fqbench.study.hypotheses.effect import NOTHING

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("seeds", "images", "expected"),
    [
        (12.0, 3400.0, "12 seeds or 3,400 images"),
        (12.0, NAN, "12 seeds"),
        (12.0, INF, "12 seeds; more images alone would not decide"),
        (INF, 3400.0, "3,400 images; more seeds alone would not decide"),
        (INF, NAN, "more seeds alone would not decide"),
        (INF, INF, "more seeds and more images together; neither alone would decide"),
        (NAN, NAN, "-"),
    ],
)
def test_what_would_decide(seeds: float, images: float, expected: str) -> None:
    claim = Claim("H1", "it is small", "size", "points", high=1.0)
    answer = ClaimAnswer(claim, NOTHING, NAN, NAN, NAN, NAN, "undecided", seeds, images)
    assert needed_text(answer) == expected
