"""Ranges from a calibration record: one per activation, with its effect on each group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.numerics import IntegerFormat
from fqbench.quant.mse_range import GroupHistograms, mse_range
from fqbench.quant.observe import observe
from fqbench.quant.policies import AS_SAMPLED, BALANCED, MINIMAX, ONLY, STRATIFIED, Policy
from fqbench.quant.rules import RULES, Distribution, Rule
from fqbench.storage import text_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.scheme import Scheme
    from fqbench.quant.calibration import CalibrationSet
    from fqbench.quant.record import CalibrationRecord


@dataclass(frozen=True)
class TensorRanges:
    """One range per activation, and its effect on each group.

    Attributes
    ----------
    tensors : tuple of str
        Names of the observed activations.
    low, high : ndarray of float64, shape (tensors,)
        The ranges.
    groups : tuple of str
        Names of the groups.
    clipped : ndarray of float64, shape (tensors, groups)
        Share of each group's values that lie outside.
    error : ndarray of float64, shape (tensors, groups)
        Mean squared quantization error of each group.
    power : ndarray of float64, shape (tensors, groups)
        Mean square of each group's values, to compare the error with.
    aliases : mapping
        Tensors that share another one's range.
    policy, rule : str
        As on the command line.
    quantizer : IntegerFormat
        Bits and symmetry that the rule optimized for.
    image_weights : mapping
        How much one image of each group counted.
    record : CalibrationRecord
        What they were made of.
    """

    tensors: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    groups: tuple[str, ...]
    clipped: NDArray[np.float64]
    error: NDArray[np.float64]
    power: NDArray[np.float64]
    aliases: Mapping[str, str]
    policy: str
    rule: str
    quantizer: IntegerFormat
    image_weights: Mapping[str, float]
    record: CalibrationRecord

    @cached_property
    def by_name(self) -> dict[str, tuple[float, float]]:
        """Return the range of every tensor, aliases included."""
        own = {
            name: (float(low), float(high)) for name, low, high in zip(self.tensors, self.low, self.high, strict=True)
        }
        return own | {alias: own[name] for alias, name in self.aliases.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and ranges."""
        return text_digest(json.dumps(self.by_name, sort_keys=True))

    def details(self) -> dict[str, Any]:
        """Return JSON values for a manifest: policy, rule, group counts; per tensor its range and shares clipped."""
        return {
            "policy": self.policy,
            "rule": self.rule,
            "bits": self.quantizer.bits,
            "symmetric": self.quantizer.symmetric,
            "groups": self.record.group_counts,
            "image_weights": dict(self.image_weights),
            "tensors": {
                name: {
                    "low": float(self.low[row]),
                    "high": float(self.high[row]),
                    "clipped": _rounded(self.groups, self.clipped[row]),
                    "noise": _rounded(self.groups, self.relative_error[row]),
                }
                for row, name in enumerate(self.tensors)
            },
        }

    @property
    def relative_error(self) -> NDArray[np.float64]:
        """Each group's squared error as a share of the mean square of its values, (tensors, groups)."""
        return np.divide(self.error, self.power, out=np.zeros_like(self.error), where=self.power > 0)


def tensor_ranges(
    model: ExportedModel, scheme: Scheme, calibration: CalibrationSet, *, symmetric: bool = False
) -> TensorRanges:
    """Return the ranges of a scheme, from the set's record, or from its images if there is none.

    Parameters
    ----------
    model : ExportedModel
        The FP32 model.
    scheme : Scheme
        ``range_rule``, ``calib_policy`` and ``act_bits`` are used.
    calibration : CalibrationSet
        Images and, if they were observed before, their record.
    symmetric : bool
        Whether the runtime's activations are signed with the zero point 0.

    Raises
    ------
    InputError
        The record belongs to another model or other images, or a rule, policy or group is unknown.
    DataError
        A group has no image, or an activation is not finite.
    """
    record = calibration.record.require(model, calibration) if calibration.record else observe(model, calibration)
    quantizer = IntegerFormat(scheme.act_bits, symmetric)
    return ranges_of(record, Rule.parse(scheme.range_rule), Policy.parse(scheme.calib_policy), quantizer)


def ranges_of(record: CalibrationRecord, rule: Rule, policy: Policy, quantizer: IntegerFormat) -> TensorRanges:
    """Return the ranges of a rule and a policy from a record, without inference.

    ``minimax`` takes no rule: per tensor, it takes the range whose squared error of the group that has most of it is
    least, among a grid and among all ranges that every rule gives for every other policy without parameters. What was
    found once is kept with the record: an artifact is often made twice, with and without bias correction.
    """
    key = (rule.label, policy.label, quantizer)
    if key not in record.memory:
        record.memory[key] = _ranges_of(record, rule, policy, quantizer)
    found: TensorRanges = record.memory[key]
    return found


def _ranges_of(record: CalibrationRecord, rule: Rule, policy: Policy, quantizer: IntegerFormat) -> TensorRanges:
    weights = policy.image_weights(record)
    if policy.name == MINIMAX:
        found = _minimax(record, quantizer)
    else:
        found = rule.ranges(Distribution.of(record, weights), quantizer)
    low, high = found[:, 0], found[:, 1]
    return TensorRanges(
        tensors=record.names,
        low=low,
        high=high,
        groups=record.groups,
        clipped=clipped_shares(record, low, high),
        error=errors_of(record, found, quantizer),
        power=_power(record),
        aliases=record.aliases,
        policy=policy.label,
        rule="mse" if policy.name == MINIMAX else rule.label,
        quantizer=quantizer,
        image_weights={group: float(weight) for group, weight in zip(record.groups, weights, strict=True)},
        record=record,
    )


def errors_of(record: CalibrationRecord, ranges: NDArray[np.float64], quantizer: IntegerFormat) -> NDArray[np.float64]:
    """Return the mean squared quantization error of each group under ranges (tensors, 2): (tensors, groups)."""
    errors: NDArray[np.float64] = _seen(record).errors(ranges[:, None, :], quantizer)[:, 0, :]
    return errors


def clipped_shares(
    record: CalibrationRecord, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of each group's values outside the ranges, (tensors, groups).

    Zero is inside any range that a runtime uses. Within a bin, values are taken as evenly spread; a group whose
    extremes are inside has none outside.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    left, right = record.edges[:, :-1], record.edges[:, 1:]
    above = np.clip((right - high[:, None]) / (right - left), 0, 1)
    below = np.clip((low[:, None] - left) / (right - left), 0, 1)
    over = np.einsum("tgb,tb->tg", record.counts, above)
    under = np.einsum("tgb,tb->tg", record.counts, below)
    over[record.high <= high.astype(np.float32)[:, None]] = 0
    under[record.low >= low.astype(np.float32)[:, None]] = 0
    totals = _totals(record)
    shares: NDArray[np.float64] = np.divide(over + under, totals, out=np.zeros_like(totals), where=totals > 0)
    return shares


def _minimax(record: CalibrationRecord, quantizer: IntegerFormat) -> NDArray[np.float64]:
    policies = [Policy(AS_SAMPLED), Policy(BALANCED), Policy(STRATIFIED)]
    policies += [Policy(ONLY, {group: 1.0}) for group in record.groups]
    mixed = [Distribution.of(record, policy.image_weights(record)) for policy in policies]
    others = [Rule(name).ranges(values, quantizer) for name in RULES for values in mixed]
    extremes = np.stack([record.low.min(axis=1), record.high.max(axis=1)], axis=1).astype(np.float64)
    return mse_range(_seen(record), extremes, quantizer, np.stack(others, axis=1))


def _seen(record: CalibrationRecord) -> GroupHistograms:
    return GroupHistograms(record.edges, record.counts, _totals(record))


def _totals(record: CalibrationRecord) -> NDArray[np.float64]:
    totals: NDArray[np.float64] = record.counts.sum(axis=2) + record.zeros
    return totals


def _power(record: CalibrationRecord) -> NDArray[np.float64]:
    middle = (record.edges[:, :-1] + record.edges[:, 1:]) / 2
    totals = _totals(record)
    square = np.einsum("tgb,tb->tg", record.counts, middle**2)
    power: NDArray[np.float64] = np.divide(square, totals, out=np.zeros_like(totals), where=totals > 0)
    return power


def _rounded(groups: tuple[str, ...], shares: NDArray[np.float64]) -> dict[str, float]:
    return {group: float(f"{share:.4g}") for group, share in zip(groups, shares, strict=True)}
