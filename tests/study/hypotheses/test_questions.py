"""H1 to H6 on tables whose truth is known: supported, refuted and undecided, each for its own reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fqbench.report.document import Format
from fqbench.report.hypotheses import DRAWN, hypotheses_document
from fqbench.report.renderers import render
from fqbench.study.hypotheses.questions import Answers, answer_hypotheses
from fqbench.study.table import ALL, frame_of

Z = 1.959963984540054
PARAMETERS = {"small": 1e6, "middle": 1e7, "large": 1e8}
NAMES = ("data", "backend", "sampler", "policy", "mitigation", "level", "split", "by", "verdict", "reference", "notice")


@dataclass(frozen=True)
class World:
    """The truth.

    Attributes
    ----------
    changes : mapping
        True change of the DP difference, in points, by (method, bits, mitigation).
    slope : float
        Points per tenfold parameters, added to every change.
    seeds, images : int
        How many; images set their noise.
    noise : float
        Standard deviation between trainings, in points.
    seconds : mapping
        Time to make, by method.
    gap : float
        DP difference of FP32.
    oddity : mapping
        Points that an architecture adds to every change.
    """

    changes: Mapping[tuple[str, int, str], float]
    slope: float = 0.0
    seeds: int = 5
    images: int = 200_000
    noise: float = 0.05
    seconds: Mapping[str, float] = field(default_factory=lambda: {"ptq_static": 10.0, "qat": 100.0})
    gap: float = 0.20
    oddity: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=lambda: dict(PARAMETERS))

    @property
    def error(self) -> float:
        """Standard error of a change that the images give, in points."""
        return 50.0 / math.sqrt(self.images)

    def table(self, seed: int = 0) -> pd.DataFrame:
        rng, rows = np.random.default_rng(seed), list[dict[str, Any]]()
        error = self.error
        shared = rng.normal(0, error)  # all cells answer the same images
        for model, parameters in self.parameters.items():
            for number in range(self.seeds):
                rows += self._cell(model, number, ("fp32", 32, ""), None)
                trained = rng.normal(0, self.noise)
                for key, change in self.changes.items():
                    true = change + self.slope * (np.log10(parameters) - 7) + self.oddity.get(model, 0.0)
                    own = rng.normal(0, 0.3 * self.noise)
                    seen = true + trained + own + 0.7 * shared + np.sqrt(0.51) * rng.normal(0, error)
                    rows += self._cell(model, number, key, seen)
        return frame_of(rows)

    def _cell(self, model: str, seed: int, key: tuple[str, int, str], change: float | None) -> list[dict[str, Any]]:
        (method, bits, mitigation), error, parameters = key, self.error, self.parameters[model]
        where = dict.fromkeys(NAMES, "") | {"data": "drawn", "backend": "ort", "mitigation": mitigation}
        where |= {"sampler": "random" if method in {"ptq_static", "mixed_precision"} else ""}
        where |= {"study": "synthetic", "cell": f"{model}-{seed}-{method}-{bits}-{mitigation}", "model": model}
        where |= {"seed": seed, "method": method, "bits": bits, "act_bits": 8, "phase": "methods", "group": ALL}
        where |= {"artifact": "a", "predictions": "p", "source": "s", "p_value": np.nan, "timed": False}

        def row(measure: str, value: float, half: float = np.nan, n: int = 0) -> dict[str, Any]:
            sure = np.nan if math.isnan(half) else 0.95
            return {
                **where,
                "measure": measure,
                "value": value,
                "low": value - half,
                "high": value + half,
                "confidence": sure,
                "n": n,
            }

        gap = self.gap + (change or 0.0) / 100
        found = [row("demographic_parity_difference", gap, Z * error / 100, self.images)]
        found += [row("parameters", parameters), row("total_macs", 30 * parameters)]
        found.append(row("making_seconds", self.seconds.get(method, 10.0)))
        if change is not None:
            found.append(row("demographic_parity_difference_change", change / 100, Z * error / 100, self.images))
        return found


INT8, INT4 = ("ptq_static", 8, ""), ("ptq_static", 4, "")
QAT8, QAT4 = ("qat", 8, ""), ("qat", 4, "")
BALANCED8, BALANCED4 = ("ptq_static", 8, "balanced_calibration"), ("ptq_static", 4, "balanced_calibration")
MIXED4 = ("mixed_precision", 4, "")
# As the literature has it: the gap of FP32 is 20 points, so that balanced calibration is to win 0.8 of them.
AS_PUBLISHED = {INT8: 0.2, INT4: 4.0, QAT8: -1.3, QAT4: 2.5, BALANCED8: -0.6, BALANCED4: 3.2, MIXED4: 1.0}
OTHERWISE = {INT8: 2.0, INT4: 9.0, QAT8: 2.1, QAT4: 9.0, BALANCED8: 2.0, BALANCED4: 9.0, MIXED4: 9.0}


def answered(**world: Any) -> Answers:
    return answer_hypotheses(World(**world).table())


def verdicts(answers: Answers) -> dict[str, str]:
    return {one.name: one.answer for one in answers.hypotheses}


def test_what_is_so_is_supported() -> None:
    found = verdicts(answered(changes=AS_PUBLISHED, slope=-0.6, images=10_000_000))
    assert {name: found[name] for name in ("H1", "H2", "H3", "H4", "H5")} == dict.fromkeys(
        ("H1", "H2", "H3", "H4", "H5"), "supported"
    )


def test_what_is_not_so_is_refuted() -> None:
    found = verdicts(answered(changes=OTHERWISE, slope=0.5, images=10_000_000))
    assert {name: found[name] for name in ("H1", "H2", "H3", "H4", "H5")} == dict.fromkeys(
        ("H1", "H2", "H3", "H4", "H5"), "refuted"
    )


def test_few_images_decide_nothing_and_the_number_that_would_is_said() -> None:
    answers = answered(changes=AS_PUBLISHED, slope=-0.6, images=300, noise=0.4)
    assert set(verdicts(answers).values()) == {"undecided"}
    claims = [one for hypothesis in answers.hypotheses for one in hypothesis.claims if hypothesis.name == "H5"]
    assert all(one.images_needed > 300 for one in claims)


def test_as_many_images_as_were_said_do_decide() -> None:
    few = answered(changes=AS_PUBLISHED, images=2_000)
    (claim,) = [one for one in few.hypotheses[4].claims if one.claim.high == 1.0]
    assert claim.answer == "undecided"
    assert math.isfinite(claim.images_needed)
    more = [
        answer_hypotheses(
            World(changes={INT8: claim.effect.value}, images=int(claim.images_needed), parameters={"m": 1e6}).table(
                seed
            )
        )
        for seed in range(30)
    ]
    decided = sum(one.hypotheses[4].claims[0].answer == "supported" for one in more)
    assert decided >= 30 * 0.7  # said at 80 % power, for the stricter level of all claims together


def test_one_seed_is_never_enough() -> None:
    answers = answered(changes=AS_PUBLISHED, slope=-0.6, seeds=1)
    for name in ("H1", "H2", "H3", "H4", "H5"):
        (hypothesis,) = [one for one in answers.hypotheses if one.name == name]
        assert hypothesis.answer == "undecided"
        assert {one.reason.partition(":")[0] for one in hypothesis.claims} == {"one training seed per model"}


def test_missing_cells_are_said() -> None:
    answers = answered(changes={INT8: 0.2})
    reasons = {one.name: {claim.reason for claim in one.claims} for one in answers.hypotheses}
    assert reasons["H2"] == {"the table has no such cells"}
    assert answers.hypotheses[2].answer == "undecided"


@pytest.mark.parametrize(
    ("world", "answer"),
    [
        # Twelve architectures whose harm follows their size; whose harm has nothing to do with it; too few of them.
        ({"slope": 2.0}, "supported"),
        ({"oddity": {f"m{i}": (1, -1, -1, 1)[i % 4] for i in range(12)}}, "refuted"),
        ({"slope": 2.0, "parameters": {"m0": 1e6, "m1": 1e7}}, "undecided"),
    ],
)
def test_the_architecture(world: dict[str, Any], answer: str) -> None:
    sizes = {f"m{i}": 10 ** (6 + 2.5 * i / 12) for i in range(12)}
    answers = answered(**({"changes": {INT8: 1.0, INT4: 4.0}, "parameters": sizes, "images": 10_000_000} | world))
    assert verdicts(answers)["H6"] == answer


def test_the_document_has_every_claim_and_says_what_was_drawn() -> None:
    world = World(changes=AS_PUBLISHED, slope=-0.6)
    table = world.table()
    plain = hypotheses_document(answer_hypotheses(table))
    assert DRAWN not in render(plain, Format.MARKDOWN)
    drawn = hypotheses_document(answer_hypotheses(table.assign(notice="drawn by a program")))
    assert DRAWN in render(drawn, Format.MARKDOWN)
    value = json.loads(render(drawn, Format.JSON))
    assert [one["name"] for one in value["hypotheses"]] == ["H1", "H2", "H3", "H4", "H5", "H6"]
    assert value["hypotheses"][4]["claims"][0]["effect"]["cells"]
    assert len(render(drawn, Format.CSV).splitlines()) == 9
