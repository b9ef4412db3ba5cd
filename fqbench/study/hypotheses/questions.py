"""H1 to H6: which rows of a study's table answer each, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fqbench.storage import finite_or_none
from fqbench.study.hypotheses.architectures import skill_of_architecture
from fqbench.study.hypotheses.claims import Answered, Claim, ClaimAnswer, answer_claims, verdict_of
from fqbench.study.hypotheses.effect import NOTHING, Effect, mean_effect, slope_effect
from fqbench.study.hypotheses.units import CellFigures, Figure, cells_in, differences, units_of

if TYPE_CHECKING:
    import pandas as pd

GAP = "demographic_parity_difference"
CHANGE = f"{GAP}_change"
STATEMENTS = {
    "H1": "Larger models keep fairness better.",
    "H2": "QAT gains 1 to 2 points of demographic parity difference over PTQ, at a high cost.",
    "H3": "Balanced calibration improves fairness by 3 to 5 % without training.",
    "H4": "Mixed precision with a float classifier keeps 80 % of fairness.",
    "H5": "INT8 costs less than 1 point of demographic parity difference, INT4 3 to 5 points.",
    "H6": "The architecture predicts how quantization changes fairness.",
}
POINTS, PERCENT = "points", "%"
Found = tuple[Effect, str]


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis, its answer, and the answers to its claims."""

    name: str
    statement: str
    answer: Answered
    claims: tuple[ClaimAnswer, ...]


@dataclass(frozen=True)
class Answers:
    """The answers of a study to all hypotheses.

    Attributes
    ----------
    study : str
        Its name.
    hypotheses : tuple of Hypothesis
        H1 to H6.
    alpha : float
        Probability of any wrong answer among all.
    notices : tuple of str
        What has to be said of the data.
    drawn : bool
        Whether the pictures are drawn by a program: then the answers are evidence about the pipeline alone.
    """

    study: str
    hypotheses: tuple[Hypothesis, ...]
    alpha: float
    notices: tuple[str, ...]

    @property
    def drawn(self) -> bool:
        """Whether some data come with a notice: they are drawn by a program."""
        return bool(self.notices)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        plain: dict[str, Any] = finite_or_none(self)
        return {**plain, "drawn": self.drawn}


def answer_hypotheses(table: pd.DataFrame, *, alpha: float = 0.05) -> Answers:
    """Answer H1 to H6 from a study's table.

    Parameters
    ----------
    table : DataFrame
        As `fqbench.study.table.read_table` returns it.
    alpha : float
        Probability of any wrong "supported" or "refuted" among all claims (Holm).
    """
    cells = [cell for cell in cells_in(table) if cell.place["method"] != "fp32"]
    floats = [cell for cell in cells_in(table) if cell.place["method"] == "fp32"]
    found = [(claim, *ask(cells, floats)) for claim, ask in QUESTIONS]
    answers = answer_claims(found, alpha=alpha)
    hypotheses = []
    for name, statement in STATEMENTS.items():
        mine = tuple(one for one in answers if one.claim.hypothesis == name)
        hypotheses.append(Hypothesis(name, statement, verdict_of(mine), mine))
    study = str(table["study"].iloc[0]) if len(table) else ""
    notices = tuple(dict.fromkeys(str(one) for one in table["notice"] if one))
    return Answers(study, tuple(hypotheses), alpha, notices)


def _plain(cell: CellFigures, *methods: str, bits: int | None = None) -> bool:
    place = cell.place
    return place["method"] in methods and not place["mitigation"] and bits in {None, place["bits"]}


def _scaled(figures: Iterable[tuple[CellFigures, Figure]], factor: float) -> list[tuple[CellFigures, Figure]]:
    return [(cell, Figure(factor * figure.value, abs(factor) * figure.error, figure.n)) for cell, figure in figures]


def _changes(cells: Sequence[CellFigures], pick: Callable[[CellFigures], bool]) -> list[tuple[CellFigures, Figure]]:
    return [(cell, figure) for cell in cells if pick(cell) and (figure := cell.get(CHANGE)) is not None]


def _size(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
    chosen = _changes(cells, lambda cell: _plain(cell, "ptq_static"))
    sizes = {
        str(cell.place["model"]): math.log10(figure.value)
        for cell, _change in chosen
        if (figure := cell.get("parameters")) is not None
    }
    chosen = [(cell, figure) for cell, figure in chosen if cell.place["model"] in sizes]
    if len(set(sizes.values())) < 3:
        return NOTHING, f"{len(set(sizes.values()))} size(s) of models; at least 3 are needed"
    return slope_effect(units_of(_scaled(chosen, 100.0)), sizes), ""


def _qat_gain(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
    pairs = differences(
        cells,
        lambda cell: _plain(cell, "ptq_static"),
        lambda cell: _plain(cell, "qat"),
        CHANGE,
        apart=("method", "sampler", "policy", "mitigation"),
    )
    return mean_effect(units_of(_scaled(pairs, 100.0))), ""


def _qat_cost(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
    seconds = [
        CellFigures(cell.cell, cell.place, {"log": Figure(math.log10(spent.value), 0.0, 0)})
        for cell in cells
        if (spent := cell.get("making_seconds")) is not None and spent.value > 0
    ]
    pairs = differences(
        seconds,
        lambda cell: _plain(cell, "ptq_static"),
        lambda cell: _plain(cell, "qat"),
        "log",
        apart=("method", "sampler", "policy", "mitigation"),
    )
    return mean_effect(units_of(_scaled(pairs, -1.0))), ""


def _balanced(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
    pairs = differences(
        cells,
        lambda cell: cell.place["sampler"] == "random" and _plain(cell, "ptq_static"),
        lambda cell: (
            (cell.place["sampler"], cell.place["mitigation"]) in {("random", "balanced_calibration"), ("balanced", "")}
            and cell.place["method"] == "ptq_static"
        ),
        CHANGE,
        apart=("sampler", "mitigation"),
    )
    random = [cell.get(GAP) for cell in cells if cell.place["sampler"] == "random" and _plain(cell, "ptq_static")]
    return _relative(pairs, random)


def _hybrid(cells: Sequence[CellFigures], floats: Sequence[CellFigures]) -> Found:
    chosen = _changes(cells, _is_hybrid)
    return _relative(chosen, [cell.get(GAP) for cell in floats])


def _is_hybrid(cell: CellFigures) -> bool:
    low = cell.place["bits"] == 4
    return low and (_plain(cell, "mixed_precision", "hybrid") or cell.place["mitigation"] == "float_head")


def _relative(pairs: Sequence[tuple[CellFigures, Figure]], gaps: Iterable[Figure | None]) -> Found:
    """Return the mean effect in percent of the mean gap, which is taken as known."""
    known = [gap.value for gap in gaps if gap is not None]
    scale = sum(known) / len(known) if known else 0.0
    if pairs and scale <= 0:
        return NOTHING, "the gap that the change would be a share of is 0"
    return mean_effect(units_of(_scaled(pairs, 100.0 / scale if scale else 1.0))), ""


def _cost(bits: int) -> Callable[[Sequence[CellFigures], Sequence[CellFigures]], Found]:
    def ask(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
        return mean_effect(
            units_of(_scaled(_changes(cells, lambda cell: _plain(cell, "ptq_static", bits=bits)), 100))
        ), ""

    return ask


def _architecture(cells: Sequence[CellFigures], _floats: Sequence[CellFigures]) -> Found:
    plain = [cell for cell in cells if not cell.place["mitigation"]]
    effect, reason = skill_of_architecture(plain, CHANGE)
    return Effect(
        100 * effect.value, 1e4 * effect.from_seeds, 0.0, effect.freedom, effect.seeds, 0, effect.cells
    ), reason


QUESTIONS: tuple[tuple[Claim, Callable[[Sequence[CellFigures], Sequence[CellFigures]], Found]], ...] = (
    (
        Claim(
            "H1",
            "per tenfold parameters, static PTQ raises the DP difference by at least 0.2 points less",
            "slope of the change of the DP difference over log10 parameters",
            POINTS,
            high=-0.2,
        ),
        _size,
    ),
    (
        Claim(
            "H2",
            "at the same bits, QAT has a DP difference that is 1 to 2 points smaller than that of static PTQ",
            "DP difference of static PTQ minus that of QAT",
            POINTS,
            low=1.0,
            high=2.0,
            margin=0.5,
        ),
        _qat_gain,
    ),
    (
        Claim(
            "H2",
            "QAT takes at least 5 times as long as static PTQ",
            "log10 of the time of QAT over that of static PTQ",
            "log10",
            low=math.log10(5),
        ),
        _qat_cost,
    ),
    (
        Claim(
            "H3",
            "balanced calibration lowers the DP difference by 3 to 5 % of that with random calibration",
            "DP difference with random minus balanced calibration, in percent of the former",
            PERCENT,
            low=3.0,
            high=5.0,
            margin=1.0,
        ),
        _balanced,
    ),
    (
        Claim(
            "H4",
            "with 4 bits and a float classifier, the DP difference is at most 25 % larger than that of FP32 (1/0.8)",
            "change of the DP difference, in percent of that of FP32",
            PERCENT,
            high=25.0,
        ),
        _hybrid,
    ),
    (
        Claim(
            "H5",
            "static PTQ to INT8 raises the DP difference by less than 1 point",
            "change of the DP difference at 8 bits",
            POINTS,
            high=1.0,
        ),
        _cost(8),
    ),
    (
        Claim(
            "H5",
            "static PTQ to INT4 raises the DP difference by 3 to 5 points",
            "change of the DP difference at 4 bits",
            POINTS,
            low=3.0,
            high=5.0,
            margin=0.5,
        ),
        _cost(4),
    ),
    (
        Claim(
            "H6",
            "for an architecture that was left out, its size and weight reuse save at least 10 % of the squared error "
            "of predicting the change from method and bits alone",
            "squared error saved, in percent",
            PERCENT,
            low=10.0,
            varies="architectures",
        ),
        _architecture,
    ),
)
