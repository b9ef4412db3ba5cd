r"""Measures from the compression literature, each a small pure function; fairlearn's are in `metrics`.

Each docstring says what its formula was checked against: the text of the source, the authors' released code, another
implementation, or nothing.

Unless said otherwise a function takes tables of counts (..., groups, 2, 2) or `PairedCounts`, gives one number a
group, and NaN where the group's rate is undefined.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError, InputError
from fqbench.fairness.metrics import (
    accuracy,
    false_negative_rate,
    false_positive_rate,
    one_vs_rest,
    spread,
    true_positive_rate,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.fairness.counts import Counts, PairedCounts
    from fqbench.fairness.metrics import Rates, Table


def excess_loss(loss_reference: Any, loss: Any, groups: Any) -> dict[str, float]:
    r"""Excess loss of each group, :math:`R(g) = J_g(\text{candidate}) - J_g(\text{reference})`; 0 is ideal.

    Parameters
    ----------
    loss_reference, loss : array-like of float, shape (n,)
        Each image's loss (cross-entropy) under the two models.
    groups : array-like of str, shape (n,)
        The group of each image.

    Returns
    -------
    dict of str to float
        By group, sorted.

    Raises
    ------
    InputError
        Lengths differ.
    DataError
        A loss is not finite.

    References
    ----------
    Tran, Fioretto, Kim and Naidu (2022), Pruning has a disparate impact on model accuracy, NeurIPS: R(a) as in the
    proof of Theorem 1, appendix A ("excessive loss").
    """
    before, after, names = np.asarray(loss_reference, float), np.asarray(loss, float), np.asarray(groups).astype(str)
    if not before.shape == after.shape == names.shape:
        raise InputError(f"losses and groups differ in length: {before.shape}, {after.shape}, {names.shape}.")
    excess = after - before
    if not np.isfinite(excess).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(excess)):,} losses are not finite; fix the predictions first.")
    unique, codes = np.unique(names, return_inverse=True)
    means = np.bincount(codes, weights=excess) / np.bincount(codes)
    return {str(name): float(mean) for name, mean in zip(unique, means, strict=True)}


def excess_loss_gap(excess: dict[str, float]) -> float:
    r"""Largest difference of excess loss, :math:`\max_g R(g) - \min_g R(g)`; 0 is ideal.

    After Tran et al. (2022), as `excess_loss`; that they compare the groups in this way was not checked in the source.
    """
    return float(spread(np.asarray(list(excess.values()), dtype=np.float64)))


def accuracy_drops(paired: PairedCounts) -> Rates:
    """Accuracy of the reference minus that of the candidate per group, shape (groups,); above 0 is a loss."""
    return accuracy(paired.reference.table) - accuracy(paired.candidate.table)


def std_of_drops(paired: PairedCounts) -> float:
    r"""Standard deviation of the groups' accuracy drops, with K as divisor; 0 is ideal. NaN without two defined groups.

    References
    ----------
    Lin, Kim and Joo (2022), FairGRAPE: fairness-aware gradient pruning method for face attribute classification, ECCV,
    arXiv 2207.10888. The authors' released code (``util.py``, ``show_acc_df``) takes the standard deviation of the same
    differences with K - 1 as divisor: multiply by :math:`\sqrt{K/(K-1)}` to compare with it.
    """
    drops = accuracy_drops(paired)
    drops = drops[~np.isnan(drops)]
    return float(drops.std()) if len(drops) > 1 else math.nan


def relative_error_changes(paired: PairedCounts, positive: str | int | None = None) -> NDArray[np.float64]:
    r"""Relative change of FPR and FNR, :math:`(r_{cand} - r_{ref}) / r_{ref}`, shape (groups, 2); 0 is ideal.

    NaN where a rate is undefined or the reference's is 0.

    References
    ----------
    Hooker, Moorosi, Clark, Bengio and Denton (2020), Characterising bias in compressed models, arXiv 2010.03058 (not
    checked against the source). The same normalized change is part of two published implementations of CEV and SDE.
    """
    binary = paired.binary(positive)
    sides = []
    for table in (binary.reference.table, binary.candidate.table):
        sides.append(np.stack([false_positive_rate(table), false_negative_rate(table)], axis=-1))
    out = np.full(sides[0].shape, np.nan)
    np.divide(sides[1] - sides[0], sides[0], out=out, where=sides[0] > 0)
    return out


def combined_error_variance(paired: PairedCounts, positive: str | int | None = None) -> float:
    r"""CEV: mean squared distance of the groups' relative changes (FPR, FNR) from their mean; 0 is ideal.

    :math:`\frac1K \sum_k \|\delta_k - \bar\delta\|^2`, over groups where both changes are defined; NaN without two.

    References
    ----------
    Blakeney, Huish, Yan and Zong (2021), Simon says: evaluating and mitigating bias in pruned neural networks with
    knowledge distillation, arXiv 2106.07849; Blakeney et al. (2022), Measuring bias and fairness in multiclass
    classification, IEEE NAS, doi 10.1109/NAS55553.2022.9925287. The texts were not available; the formula agrees with a
    published implementation of the second. Theirs goes over the classes of a classifier, ours over groups.
    """
    changes = relative_error_changes(paired, positive)
    changes = changes[~np.isnan(changes).any(axis=1)]
    if len(changes) < 2:
        return math.nan
    return float(((changes - changes.mean(axis=0)) ** 2).sum(axis=1).mean())


def symmetric_distance_error(paired: PairedCounts, positive: str | int | None = None) -> float:
    r"""SDE: do false positives and negatives grow alike, :math:`\frac1K\sum_k |\delta^{FNR}_k - \delta^{FPR}_k|`.

    0 is ideal. The changes are relative; groups where one is undefined are left out; NaN if none remains.

    References
    ----------
    As `combined_error_variance`, and checked in the same way.
    """
    changes = relative_error_changes(paired, positive)
    changes = changes[~np.isnan(changes).any(axis=1)]
    return float(np.abs(changes[:, 1] - changes[:, 0]).mean()) if len(changes) else math.nan


def equal_opportunity_sums(counts: Counts) -> dict[str, float]:
    r"""EOpp0, EOpp1 and EOdd: sums over classes and pairs of groups, where fairlearn takes maxima; 0 is ideal.

    With each class k against the rest, :math:`EOpp0 = \sum_k \sum_{a<b} |TNR_a^k - TNR_b^k|`,
    :math:`EOpp1 = \sum_k \sum_{a<b} |TPR_a^k - TPR_b^k|` and
    :math:`EOdd = \sum_k \sum_{a<b} |TPR_a^k - TPR_b^k + FPR_a^k - FPR_b^k|`. Of two classes each rate of one is a rate
    of the other, so EOpp0 equals EOpp1. Groups without the rate are left out; NaN if no class has two groups.

    References
    ----------
    Wu, Zeng, Xu, Shi and Hu (2022), FairPrune: achieving fairness through pruning for dermatological disease
    diagnosis, MICCAI. The text was not available; the sums over classes agree with a published implementation of its
    measures for two groups. The sum over pairs, for more than two groups, is ours.
    """
    totals: dict[str, list[float]] = {"EOpp0": [], "EOpp1": [], "EOdd": []}
    for index in range(len(counts.classes)):
        table = one_vs_rest(counts.table, index)
        tpr, fpr = true_positive_rate(table), false_positive_rate(table)
        for name, rates in (("EOpp0", 1 - fpr), ("EOpp1", tpr), ("EOdd", tpr + fpr)):
            totals[name].append(_pair_sum(rates))
    return {name: float(np.nansum(sums)) if np.isfinite(sums).any() else math.nan for name, sums in totals.items()}


def _pair_sum(values: Rates) -> float:
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return math.nan
    return float(np.abs(values[:, None] - values[None, :]).sum() / 2)


def agreement(paired: PairedCounts) -> Rates:
    """Share of images with the same prediction from both models, shape (groups,); 1 is ideal."""
    same = np.einsum("glpp->g", paired.table).astype(np.float64)
    out = np.full(len(paired.groups), np.nan)
    np.divide(same, paired.n, out=out, where=paired.n > 0)
    return out


def cross_entropy(labels: Any, logits: Any) -> NDArray[np.float64]:
    r"""Cross-entropy of each image, :math:`-\log q(y)`; 0 is ideal.

    Parameters
    ----------
    labels : array-like of int, shape (n,)
        True classes.
    logits : array-like of float, shape (n, classes)
        Before softmax.

    Returns
    -------
    ndarray of float64, shape (n,)
        In nats.

    Raises
    ------
    InputError
        Lengths differ, or a label is not a class.
    """
    from scipy.special import log_softmax

    truth, values = np.asarray(labels), np.asarray(logits, np.float64)
    if values.ndim != 2 or len(truth) != len(values):
        raise InputError(f"cross-entropy needs a row of logits for each of {len(truth)} labels, not {values.shape}.")
    if len(truth) and not 0 <= truth.min() <= truth.max() < values.shape[1]:
        raise InputError(f"labels are classes from 0 to {values.shape[1] - 1}, not {truth.min()} to {truth.max()}.")
    return np.asarray(-log_softmax(values, axis=1)[np.arange(len(truth)), truth], dtype=np.float64)


def kl_divergence(logits_reference: Any, logits: Any) -> NDArray[np.float64]:
    r"""KL divergence of each image, :math:`\sum_c p_c \log(p_c / q_c)`, reference p to candidate q; 0 is ideal.

    Parameters
    ----------
    logits_reference, logits : array-like of float, shape (n, classes)
        Before softmax.

    Returns
    -------
    ndarray of float64, shape (n,)
        In nats.

    Raises
    ------
    InputError
        Shapes differ.
    DataError
        A logit is not finite.
    """
    from scipy.special import log_softmax

    first, second = np.asarray(logits_reference, np.float64), np.asarray(logits, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(f"both models need logits (images, classes) of one shape, not {first.shape}, {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("some logits are not finite; the divergence from them is undefined.")
    log_p, log_q = log_softmax(first, axis=1), log_softmax(second, axis=1)
    return np.asarray(np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0), dtype=np.float64)


def bias_amplification(table: Table) -> float:
    r"""How much more group and positive class are associated in the predictions than in the labels; 0 is ideal.

    For the groups over-represented among the labelled positives, :math:`b_g = P(g | \hat Y = 1) - P(g | Y = 1)`,
    averaged over these groups. A group is over-represented if its share of the positives exceeds its share of the
    images. NaN without positives or without predicted ones.

    Parameters
    ----------
    table : ndarray, shape (groups, 2, 2)
        Binary counts.

    References
    ----------
    Iofinova, Peste and Alistarh (2023), Bias in pruned vision models, CVPR. For two groups this is what the authors'
    released code computes (``bias_utils/runs.py``, ``compute_bias_amplification``), but it takes
    the over-represented group from the training labels, and leaves out attributes with fewer than 10 positives in a
    group, or whose frequencies in the groups differ by less than a tenth. For more groups the average is ours.
    The measure goes back to Zhao, Wang, Yatskar, Ordonez and Chang (2017), Men also like shopping, EMNLP, section 3: as
    others restate it, they sum over the groups whose share of the training positives exceeds one divided by the number
    of groups, and compare with that share. The comparison with the group's own share of the images is that of the base
    rates which Wang and Russakovsky (2021), Directional bias amplification, ICML, ask for.
    """
    size, labelled, predicted = table.sum(axis=(1, 2)), table[:, 1, :].sum(axis=1), table[:, :, 1].sum(axis=1)
    if labelled.sum() == 0 or predicted.sum() == 0:
        return math.nan
    share = labelled / labelled.sum()
    over = share > size / size.sum()
    return float((predicted / predicted.sum() - share)[over].mean()) if over.any() else 0.0


def modal_predictions(predictions: Any) -> NDArray[np.int64]:
    """Most frequent prediction of each image over seeds, the smallest class where several are; from (seeds, n) to (n,).

    Raises
    ------
    InputError
        Not a table of whole numbers from 0 on.
    """
    votes = np.asarray(predictions)
    if votes.ndim != 2 or votes.shape[0] == 0 or votes.dtype.kind not in "iub" or (votes.size and votes.min() < 0):
        raise InputError("predictions of several seeds must be class indices of shape (seeds, images).")
    if votes.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    classes = int(votes.max()) + 1
    tally = np.stack([(votes == each).sum(axis=0) for each in range(classes)])
    return np.asarray(tally.argmax(axis=0), dtype=np.int64)


def compression_identified_exemplars(predictions_reference: Any, predictions: Any) -> NDArray[np.bool_]:
    """Mark the images whose modal prediction over seeds differs between reference and compressed models.

    Parameters
    ----------
    predictions_reference, predictions : array-like of int, shape (seeds, n)
        Class indices; the numbers of seeds may differ, the images may not.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    InputError
        Not tables of class indices over the same images.

    References
    ----------
    Hooker, Courville, Clark, Dauphin and Frome (2019), What do compressed deep neural networks forget?, arXiv
    1911.05248, who call them pruning identified exemplars. The authors' released code (``pie_dataset_gen``) compares
    modal labels likewise; of classes with equally many votes it takes the largest, ours the smallest.
    """
    before, after = modal_predictions(predictions_reference), modal_predictions(predictions)
    if before.shape != after.shape:
        raise InputError(f"the two sets of predictions are over {len(before):,} and {len(after):,} images.")
    return np.asarray(before != after)
