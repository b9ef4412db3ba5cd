from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from fqbench.errors import DataError, InputError
from fqbench.fairness import Counts, PairedCounts
from fqbench.fairness import literature as lit


def pair(*tables):
    """Paired counts with given (fp, tn, fn, tp) of reference and candidate, matched in any way that fits."""
    out = []
    for before, after in tables:
        table = np.zeros((2, 2, 2), dtype=int)
        for label, (first, second) in enumerate(((before[:2], after[:2]), (before[2:], after[2:]))):
            one = (first[0], second[0]) if label == 0 else (first[1], second[1])  # predicted positive
            n, both = sum(first), min(one)
            table[label, 1, 1] = both
            table[label, 1, 0], table[label, 0, 1] = one[0] - both, one[1] - both
            table[label, 0, 0] = n - table[label].sum()
        out.append(table)
    return PairedCounts(tuple("abcdef"[: len(out)]), ("0", "1"), np.array(out))


# group a: FPR 0.1 -> 0.2 (+1), FNR 0.2 -> 0.3 (+0.5); group b: FPR 0.2 -> 0.2 (0), FNR 0.1 -> 0.2 (+1)
TWO = pair(((10, 90, 20, 80), (20, 80, 30, 70)), ((20, 80, 10, 90), (20, 80, 20, 80)))


def test_relative_changes_by_hand():
    np.testing.assert_allclose(lit.relative_error_changes(TWO), [[1.0, 0.5], [0.0, 1.0]])


def test_cev_and_sde_by_hand():
    # mean change (0.5, 0.75); squared distances 0.25 + 0.0625 for both groups
    assert lit.combined_error_variance(TWO) == pytest.approx(0.3125)
    assert lit.symmetric_distance_error(TWO) == pytest.approx((0.5 + 1.0) / 2)


def test_a_change_from_zero_is_undefined_and_left_out():
    three = pair(
        ((10, 90, 20, 80), (20, 80, 30, 70)), ((0, 100, 10, 90), (5, 95, 10, 90)), ((20, 80, 10, 90), (20, 80, 20, 80))
    )
    changes = lit.relative_error_changes(three)
    assert np.isnan(changes[1, 0])
    assert changes[1, 1] == 0.0
    assert lit.combined_error_variance(three) == pytest.approx(0.3125)
    assert np.isnan(lit.combined_error_variance(pair(((0, 100, 10, 90), (5, 95, 10, 90)))))
    assert np.isnan(lit.symmetric_distance_error(pair(((0, 100, 10, 90), (5, 95, 10, 90)))))


def test_drops_and_their_deviation():
    np.testing.assert_allclose(lit.accuracy_drops(TWO), [0.1, 0.05])
    assert lit.std_of_drops(TWO) == pytest.approx(np.std([0.1, 0.05]))
    assert np.isnan(lit.std_of_drops(pair(((1, 1, 1, 1), (1, 1, 1, 1)))))


def test_agreement_counts_equal_predictions():
    np.testing.assert_allclose(lit.agreement(TWO), [0.9, 0.95])
    empty = PairedCounts(("a",), ("0", "1"), np.zeros((1, 2, 2, 2)))
    assert np.isnan(lit.agreement(empty)).all()


def test_sums_over_classes_of_three():
    table = np.array([[[8, 1, 1], [2, 6, 2], [0, 0, 10]], [[9, 1, 0], [0, 10, 0], [5, 0, 5]]])
    got = lit.equal_opportunity_sums(Counts(("a", "b"), ("x", "y", "z"), table))
    assert got["EOpp1"] == pytest.approx(0.1 + 0.4 + 0.5)
    assert got["EOpp0"] == pytest.approx((5 - 2) / 20 + 0 + 3 / 20)
    assert got["EOdd"] == pytest.approx(abs(-0.1 - 3 / 20) + abs(-0.4) + abs(0.5 + 3 / 20))


def test_sums_over_classes_and_pairs_of_groups():
    table = np.array([[[90, 10], [20, 80]], [[80, 20], [10, 90]], [[70, 30], [0, 0]]])
    got = lit.equal_opportunity_sums(Counts(("a", "b", "c"), ("0", "1"), table))
    assert got["EOpp0"] == pytest.approx((0.1 + 0.2 + 0.1) + 0.1)
    assert got["EOpp1"] == pytest.approx(got["EOpp0"])
    assert got["EOdd"] == pytest.approx(2 * abs((0.8 - 0.9) + (0.1 - 0.2)))
    assert np.isnan(list(lit.equal_opportunity_sums(Counts(("a",), ("0", "1"), table[:1])).values())).all()


def test_excess_loss_per_group():
    got = lit.excess_loss([1.0, 2.0, 3.0], [1.5, 2.0, 5.0], ["b", "a", "b"])
    assert got == {"a": 0.0, "b": 1.25}
    assert lit.excess_loss_gap(got) == 1.25
    assert np.isnan(lit.excess_loss_gap({"a": 1.0}))
    with pytest.raises(DataError, match="1 losses are not finite"):
        lit.excess_loss([1.0, np.inf], [1.0, 1.0], ["a", "a"])
    with pytest.raises(InputError, match="differ in length"):
        lit.excess_loss([1.0], [1.0, 1.0], ["a", "a"])


def test_cross_entropy_is_the_log_of_the_true_class():
    logits = np.random.default_rng(0).normal(size=(20, 3)) * 5
    labels = np.arange(20) % 3
    expected = -np.log(special.softmax(logits, axis=1)[np.arange(20), labels])
    np.testing.assert_allclose(lit.cross_entropy(labels, logits), expected, rtol=1e-9)
    for bad in (labels[:-1], labels[:, None][:5]):
        with pytest.raises(InputError, match="a row of logits for each of"):
            lit.cross_entropy(bad, logits)
    with pytest.raises(InputError, match="a row of logits for each of 3 labels"):
        lit.cross_entropy([0, 1, 1], np.zeros(3))


def test_kl_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50, 4)) * 5
    expected = stats.entropy(special.softmax(first, axis=1), special.softmax(second, axis=1), axis=1)
    np.testing.assert_allclose(lit.kl_divergence(first, second), expected, rtol=1e-9)
    np.testing.assert_array_equal(lit.kl_divergence(first, first), 0.0)
    assert np.isfinite(lit.kl_divergence([[900.0, -900.0]], [[-900.0, 900.0]])).all()
    with pytest.raises(DataError, match="not finite"):
        lit.kl_divergence([[0.0, np.nan]], [[0.0, 1.0]])
    with pytest.raises(InputError, match="one shape"):
        lit.kl_divergence([[0.0, 1.0]], [[0.0, 1.0, 2.0]])


def test_bias_amplification_by_hand():
    # labelled positives: 60 of 80 are in a; predicted positives: 70 of 80
    table = np.array([[[40, 0], [0, 60]], [[80, 0], [0, 20]]])
    more = np.array([[[30, 10], [0, 60]], [[80, 0], [10, 10]]])
    assert lit.bias_amplification(table) == 0.0
    assert lit.bias_amplification(more) == pytest.approx(70 / 80 - 60 / 80)
    assert np.isnan(lit.bias_amplification(np.array([[[5, 0], [0, 0]]])))
    assert lit.bias_amplification(np.array([[[1, 0], [0, 1]], [[1, 0], [0, 1]]])) == 0.0


def test_exemplars_are_images_whose_usual_prediction_changed():
    before = [[0, 1, 2, 1], [0, 1, 2, 0], [1, 1, 0, 0]]
    after = [[0, 0, 2, 1], [0, 0, 2, 1], [0, 1, 0, 0], [0, 0, 2, 1]]
    assert lit.modal_predictions(before).tolist() == [0, 1, 2, 0]
    assert lit.compression_identified_exemplars(before, after).tolist() == [False, True, False, True]
    assert lit.modal_predictions(np.zeros((2, 0), dtype=int)).tolist() == []
    for wrong in ([0, 1], [[0.5, 1.0]], [[-1, 0]]):
        with pytest.raises(InputError, match="class indices"):
            lit.modal_predictions(wrong)
    with pytest.raises(InputError, match="4 and 3 images"):
        lit.compression_identified_exemplars(before, [[0, 0, 0]])
