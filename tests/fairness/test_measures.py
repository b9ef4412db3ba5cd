"""All measures of one change, each computed here from the images: the right figure stands under every name."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats

from fqbench.fairness import count_paired
from fqbench.fairness.measures import measures

GROUPS = ["a", "b", "c"]
rng = np.random.default_rng(3)
truth, groups = rng.integers(0, 3, 900), rng.choice(GROUPS, 900, p=[0.5, 0.3, 0.2])
before = (rng.normal(size=(900, 3)) + 2 * np.eye(3)[truth]).astype(np.float32)
noise = np.array([0.3, 0.8, 1.5])[np.searchsorted(GROUPS, groups)]
after = (before + rng.normal(size=(900, 3)) * noise[:, None]).astype(np.float32)
first, second = before.argmax(axis=1), after.argmax(axis=1)
PAIRED = count_paired(truth, first, second, groups)


def by_group(of):
    return {group: of(groups == group) for group in GROUPS}


def rates(answers, label, group):
    """TPR and FPR of a class."""
    mine, asked = groups == group, answers == label
    return asked[mine & (truth == label)].mean(), asked[mine & (truth != label)].mean()


def test_every_figure_is_the_one_of_its_name():
    got = measures(PAIRED, truth, groups, positive="1", logits_reference=before, logits=after)
    losses = [-np.log(special.softmax(x.astype(float), axis=1)[np.arange(900), truth]) for x in (before, after)]
    excess = by_group(lambda mine: (losses[1] - losses[0])[mine].mean())
    assert got.excess_loss == pytest.approx(excess, abs=1e-6)
    assert got.excess_loss_gap == pytest.approx(max(excess.values()) - min(excess.values()), abs=1e-6)
    chances = [special.softmax(x.astype(float), axis=1) for x in (before, after)]
    divergence = stats.entropy(*chances, axis=1)
    assert got.kl_divergence == pytest.approx(by_group(lambda mine: divergence[mine].mean()), abs=1e-6)
    assert got.agreement == pytest.approx(by_group(lambda mine: (first == second)[mine].mean()))
    drops = by_group(lambda mine: ((first == truth)[mine]).mean() - (second == truth)[mine].mean())
    assert got.std_of_drops == pytest.approx(np.std(list(drops.values())))

    changes = {}
    for group in GROUPS:
        (old_tpr, old_fpr), (tpr, fpr) = (rates(answers, 1, group) for answers in (first, second))
        changes[group] = ((fpr - old_fpr) / old_fpr, (old_tpr - tpr) / (1 - old_tpr))
        assert got.relative_fpr_change[group] == pytest.approx(changes[group][0])
        assert got.relative_fnr_change[group] == pytest.approx(changes[group][1])
    table = np.array(list(changes.values()))
    assert got.combined_error_variance == pytest.approx(table.var(axis=0).sum())
    assert got.symmetric_distance_error == pytest.approx(abs(table[:, 0] - table[:, 1]).mean())

    pairs = [(rates(second, k, a), rates(second, k, b)) for k in range(3) for a, b in combinations(GROUPS, 2)]
    assert got.eopp0 == pytest.approx(sum(abs(one[1] - other[1]) for one, other in pairs))
    assert got.eopp1 == pytest.approx(sum(abs(one[0] - other[0]) for one, other in pairs))
    assert got.eodd == pytest.approx(sum(abs(sum(one) - sum(other)) for one, other in pairs))

    labelled, predicted = (by_group(lambda mine, of=of: mine[of == 1].mean()) for of in (truth, second))
    over = [group for group in GROUPS if labelled[group] > (groups == group).mean()]
    assert got.bias_amplification == pytest.approx(np.mean([predicted[group] - labelled[group] for group in over]))


def test_what_needs_a_positive_class_or_logits_is_undefined_without():
    got = measures(PAIRED, truth, groups, positive=None, logits=after)
    assert got.excess_loss == got.kl_divergence == {}
    assert np.isnan([got.excess_loss_gap, got.combined_error_variance, got.symmetric_distance_error]).all()
    assert np.isnan([*got.relative_fpr_change.values(), *got.relative_fnr_change.values()]).all()
    assert np.isnan(got.bias_amplification)
    assert got.eopp0 > 0
    assert list(got.agreement) == GROUPS
