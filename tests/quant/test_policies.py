"""Policies re-weight one record; minimax is never worse for the worst group than any of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fqbench.contracts.numerics import IntegerFormat
from fqbench.errors import InputError
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import errors_of, ranges_of
from fqbench.quant.record import CalibrationRecord
from fqbench.quant.rules import Rule
from fqbench.testing.records import record_of

SIZES = {"large": 12, "middle": 6, "small": 2}
POPULATION = {"large": 800, "middle": 150, "small": 50}


@st.composite
def records(draw: st.DrawFn) -> CalibrationRecord:
    """Groups of other scale, shift and tail, so that they disagree about the range."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    relu, tails = draw(st.booleans()), draw(st.sampled_from([2.0, 4.0, 30.0]))
    values = {}
    for group, images in SIZES.items():
        scale, shift = np.exp(rng.normal(0, 1)), rng.normal(0, 1)
        drawn = scale * rng.standard_t(tails, (images, 200)) + shift
        values[group] = (np.maximum(drawn, 0) if relu else drawn).astype(np.float32)
    return record_of({"t": values}, population=POPULATION, bins=256)


weightings = st.sampled_from(
    ["as-sampled", "balanced", "stratified", "only=large", "only=middle", "only=small", "weights=small:9,large:0.2"]
)
rules = st.sampled_from(["minmax", "mean_minmax", "percentile=99.9", "percentile=99.99", "entropy", "mse"])


@settings(deadline=None, max_examples=60)
@given(records(), weightings, rules, st.sampled_from([8, 4, 2]), st.booleans())
def test_minimax_never_has_a_larger_worst_group_error(
    record: CalibrationRecord, policy: str, rule: str, bits: int, symmetric: bool
) -> None:
    quantizer = IntegerFormat(bits, symmetric)
    other = ranges_of(record, Rule.parse(rule), Policy.parse(policy), quantizer)
    fairest = ranges_of(record, Rule("mse"), Policy("minimax"), quantizer)
    assert fairest.error.max() <= other.error.max() * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(records(), st.sampled_from([8, 4, 2]), st.data())
def test_minimax_is_not_worse_than_ranges_that_no_rule_gives(
    record: CalibrationRecord, bits: int, data: st.DataObject
) -> None:
    quantizer = IntegerFormat(bits)
    fairest = ranges_of(record, Rule("mse"), Policy("minimax"), quantizer).error.max()
    share = st.floats(0.01, 1)
    any_range = np.array([[record.low.min() * data.draw(share), record.high.max() * data.draw(share)]])
    assert fairest <= errors_of(record, any_range, quantizer).max() * 1.02  # the search is a grid: 2 % of slack


def test_image_weights() -> None:
    values = {"a": np.ones((8, 3), np.float32), "b": np.full((2, 3), 5, np.float32)}
    record = record_of({"t": values}, population={"a": 60, "b": 40})

    def total(policy: str) -> np.ndarray:
        weights = Policy.parse(policy).image_weights(record) * record.images
        return weights / weights.sum()

    np.testing.assert_allclose(total("as-sampled"), [0.8, 0.2])
    np.testing.assert_allclose(total("balanced"), [0.5, 0.5])
    np.testing.assert_allclose(total("stratified"), [0.6, 0.4])
    np.testing.assert_allclose(total("only=b"), [0, 1])
    np.testing.assert_allclose(total("weights=b:3"), [0.25, 0.75])
    assert ranges_of(record, Rule("minmax"), Policy.parse("only=a"), IntegerFormat()).by_name["t"] == (0, 1)
    assert ranges_of(record, Rule("minmax"), Policy.parse("only=b"), IntegerFormat()).by_name["t"] == (0, 5)


def test_balanced_by_weighting_and_by_sampling_agree_in_expectation() -> None:
    """Over draws, the mean range of a balanced sample is that of a random sample weighted to be balanced."""
    rng = np.random.default_rng(5)
    pools = {
        "many": rng.normal(0, 1, (400, 300)).astype(np.float32),
        "few": rng.normal(0, 3, (100, 300)).astype(np.float32),
    }
    sampled, weighted = [], []
    for _ in range(40):
        equal = {g: pool[rng.choice(len(pool), 32, replace=False)] for g, pool in pools.items()}
        chosen = rng.choice(500, 64, replace=False)
        random = {"many": pools["many"][chosen[chosen < 400]], "few": pools["few"][chosen[chosen >= 400] - 400]}
        for values, policy, found in ((equal, "as-sampled", sampled), (random, "balanced", weighted)):
            record = record_of({"t": values})
            found.append(
                ranges_of(record, Rule.parse("percentile=99"), Policy.parse(policy), IntegerFormat()).by_name["t"]
            )
    for end in (0, 1):
        one, other = np.array(sampled)[:, end], np.array(weighted)[:, end]
        standard_error = np.hypot(one.std(ddof=1), other.std(ddof=1)) / np.sqrt(40)
        assert abs(one.mean() - other.mean()) < 4 * standard_error
        unweighted = np.quantile(rng.normal(0, 1, 100_000), 0.995)  # what ignoring the small group would give
        assert abs(other.mean()) > 1.5 * unweighted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("balancd", "unknown calibration policy 'balancd': did you mean 'balanced'"),
        ("minimax=3", "unknown calibration policy 'minimax=3'"),
        ("weights=a", "'a' is not GROUP:WEIGHT with a weight from 0"),
        ("weights=a:-1", "'a:-1' is not GROUP:WEIGHT"),
        ("weights=a:0", "at least one weight must be above 0"),
    ],
)
def test_a_wrong_policy_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Policy.parse(text)


def test_an_unknown_group_is_named() -> None:
    record = record_of({"t": {"light": np.ones((1, 2), np.float32), "dark": np.ones((1, 2), np.float32)}})
    with pytest.raises(InputError, match=r"only=lihgt: no group 'lihgt': did you mean 'light'"):
        ranges_of(record, Rule(), Policy.parse("only=lihgt"), IntegerFormat())


def test_policies_are_written_as_they_are_read() -> None:
    for text in ("as-sampled", "balanced", "minimax", "only=dark×old", "weights=a:2,b:0.5"):
        assert Policy.parse(text).label == text
    assert Policy.parse("none").label == "as-sampled"
