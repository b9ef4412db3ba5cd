"""Claims about an effect: supported, refuted or undecided, corrected together, and what would decide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fqbench.fairness.hypothesis_tests import adjust
from fqbench.fairness.intervals import quantile_of_normal
from fqbench.study.hypotheses.effect import Effect

Answered = Literal["supported", "refuted", "undecided"]
POWER = 0.8


@dataclass(frozen=True)
class Claim:
    """What a hypothesis says about one effect: that it lies between two bounds.

    Attributes
    ----------
    hypothesis : str
        ``H1`` to ``H6``.
    says : str
        The claim in one sentence.
    measures : str
        What the effect is.
    unit : str
        Of the effect.
    low, high : float
        The bounds; infinite where the claim has one only.
    margin : float
        By how much the effect may miss a bound and still count as within (equivalence margin).
    varies : str
        What the first part of the effect's variance is between: ``seeds``, or ``architectures``.
    """

    hypothesis: str
    says: str
    measures: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    margin: float = 0.0
    varies: str = "seeds"

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds with the margin."""
        return self.low - self.margin, self.high + self.margin

    def p_supported(self, effect: Effect) -> float:
        """Return the p-value of "the effect is outside", by two one-sided tests."""
        low, high = self.bounds
        sides = [effect.p_above(low)] * math.isfinite(low) + [effect.p_below(high)] * math.isfinite(high)
        return max(sides)

    def p_refuted(self, effect: Effect) -> float:
        """Return the p-value of "the effect is within"."""
        low, high = self.bounds
        sides = [effect.p_below(low)] * math.isfinite(low) + [effect.p_above(high)] * math.isfinite(high)
        return min(1.0, len(sides) * min(sides)) if not any(map(math.isnan, sides)) else math.nan


@dataclass(frozen=True)
class ClaimAnswer:
    """The answer to one claim.

    Attributes
    ----------
    claim : Claim
        What was claimed.
    effect : Effect
        What was found, with the cells whose rows were used.
    low, high : float
        95 % interval of the effect, over seeds and images.
    p_supported, p_refuted : float
        Corrected over all claims (Holm); NaN where there is no test.
    answer : str
        ``supported``, ``refuted`` or ``undecided``.
    seeds_needed, images_needed : float
        Where undecided: seeds per model, or images, that would decide at 80 % power if the effect is as seen and the
        other stays as it is; infinite where more of this alone never would. NaN where that cannot be said.
    reason : str
        Why there is no test; empty otherwise.
    """

    claim: Claim
    effect: Effect
    low: float
    high: float
    p_supported: float
    p_refuted: float
    answer: Answered
    seeds_needed: float = math.nan
    images_needed: float = math.nan
    reason: str = ""


def answer_claims(
    found: Sequence[tuple[Claim, Effect, str]], *, alpha: float = 0.05, confidence: float = 0.95
) -> tuple[ClaimAnswer, ...]:
    """Test all claims, corrected together.

    Parameters
    ----------
    found : sequence of (Claim, Effect, str)
        The claims, their effects, and a reason not to test one; empty otherwise.
    alpha : float
        Probability of any wrong "supported" or "refuted" among all claims.
    confidence : float
        Of the intervals, which are not corrected.
    """
    p_values = []
    for claim, effect, reason in found:
        tested = not reason and not math.isnan(effect.value)
        p_values += [claim.p_supported(effect), claim.p_refuted(effect)] if tested else [math.nan, math.nan]
    adjusted = adjust(p_values).tolist()
    tests = sum(not math.isnan(p) for p in p_values)
    answers = []
    for (claim, effect, reason), support, refute in zip(found, adjusted[::2], adjusted[1::2], strict=True):
        low, high = effect.interval(confidence)
        told = "supported" if support <= alpha else "refuted" if refute <= alpha else "undecided"
        said = reason or _why_no_test(effect)
        needed = (math.nan, math.nan)
        if told == "undecided" and not said:
            needed = needed_to_decide(claim, effect, alpha=alpha / max(tests, 1))
        answers.append(ClaimAnswer(claim, effect, low, high, support, refute, told, *needed, said))  # type: ignore[arg-type]
    return tuple(answers)


def verdict_of(answers: Iterable[ClaimAnswer]) -> Answered:
    """Return the answer to a hypothesis: supported if all its claims are, refuted if one is."""
    said = [one.answer for one in answers]
    if "refuted" in said:
        return "refuted"
    return "supported" if said and all(one == "supported" for one in said) else "undecided"


def needed_to_decide(claim: Claim, effect: Effect, *, alpha: float) -> tuple[float, float]:
    """Return the seeds, and the images, that would decide a claim at 80 % power if the effect is as seen.

    The effect has to be away from its nearest bound by as many standard errors as level and power ask for. More seeds
    shrink one part of the variance, more images the other one.

    Returns
    -------
    seeds, images : float
        Infinite where more of this alone never decides, since the other part is too large.
    """
    distance = min(abs(effect.value - bound) for bound in claim.bounds if math.isfinite(bound))
    allowed = (distance / (quantile_of_normal(1 - alpha) + quantile_of_normal(POWER))) ** 2
    seeds = _scaled(effect.seeds, effect.from_seeds, allowed - effect.from_images)
    images = _scaled(effect.images, effect.from_images, allowed - effect.from_seeds) if effect.images else math.nan
    return seeds, images


def _scaled(now: int, variance: float, allowed: float) -> float:
    if allowed <= 0:
        return math.inf
    return float(max(now + 1, math.ceil(now * variance / allowed)))


def _why_no_test(effect: Effect) -> str:
    if math.isnan(effect.value):
        return "the table has no such cells"
    if math.isnan(effect.error):
        return "one training seed per model: how much trainings differ is unknown; run at least 3"
    return ""
