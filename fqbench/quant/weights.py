"""Symmetric per-channel weights: scales, integers and bias correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.onnx_graph import attribute, initializer_values, initializers, origin, producers, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fqbench.quant.ranges import TensorRanges

COARSE, FINE = 16, 8  # thresholds tried, as shares of the largest magnitude; then around the best
SMALLEST_SHARE = {8: 0.5, 7: 0.5, 4: 0.2, 2: 0.05}


@dataclass(frozen=True)
class Weight:
    """A constant weight of an operator that a runtime quantizes per output channel.

    Attributes
    ----------
    node : NodeProto
        The operator.
    name : str
        Of the weight's initializer.
    axis : int
        Its output channels.
    values : ndarray
        The weight.
    """

    node: NodeProto
    name: str
    axis: int
    values: NDArray[np.float32]

    @property
    def path(self) -> str:
        """Path of the module that it belongs to, where the graph was exported here (decision 0023)."""
        return self.name.removesuffix("_t").removesuffix(".weight")

    @property
    def rows(self) -> NDArray[np.float32]:
        """The weight as (output channels, everything else)."""
        return np.moveaxis(self.values, self.axis, 0).reshape(self.values.shape[self.axis], -1)


def weights_of(model: ModelProto) -> list[Weight]:
    """List the constant weights of Conv, Gemm and MatMul; one that several operators share is listed once."""
    constants = initializers(model.graph)
    found: dict[str, Weight] = {}
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or len(node.input) < 2 or node.input[1] not in constants:
            continue
        values = values_of(constants[node.input[1]])
        if values.dtype != np.float32 or (node.op_type == "MatMul" and values.ndim != 2):
            continue
        out_first = node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0))
        found.setdefault(node.input[1], Weight(node, node.input[1], 0 if out_first else 1, values))
    return list(found.values())


def scales(rows: NDArray[np.float32], bits: int, rule: str) -> NDArray[np.float32]:
    """Return the scale of each row, for integers from ``-2**(bits-1)`` to ``2**(bits-1) - 1``.

    Parameters
    ----------
    rows : ndarray of float32, shape (channels, n)
        Weights.
    bits : int
        8, 4 or 2.
    rule : str
        ``minmax``: the largest magnitude is the highest level. ``mse``: the scale with the least squared error among
        such thresholds and smaller ones; never worse than ``minmax`` on the weights themselves.

    Returns
    -------
    ndarray of float32, shape (channels,)
        1 for a channel of zeros.
    """
    top = 2 ** (bits - 1) - 1
    largest = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    share = np.ones(len(rows))
    if rule == "mse":
        unit = largest / top
        best = _Shares(share, _errors(rows, unit, bits))
        steps = np.linspace(SMALLEST_SHARE[bits], 1, COARSE, endpoint=False)
        best = best.tried(rows, unit, bits, np.tile(steps[:, None], len(rows)))
        width = float(steps[1] - steps[0])
        share = best.tried(rows, unit, bits, best.share + np.linspace(-width, width, FINE)[:, None]).share
    scale = largest * share / top
    usable: NDArray[np.float32] = np.where(scale > np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
    return usable


def levels_of(rows: NDArray[np.float32], scale: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    """Return the nearest integers of weights (channels, n), from ``-2**(bits-1)`` to ``2**(bits-1) - 1``."""
    half = 2 ** (bits - 1)
    levels: NDArray[np.int8] = np.clip(np.rint(rows / scale[:, None]), -half, half - 1).astype(np.int8)
    return levels


def rounded(rows: NDArray[np.float32], scale: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return the dequantized weights: rounded to multiples of the scale and clipped to the integer range."""
    half = 2 ** (bits - 1)
    levels: NDArray[np.float32] = np.rint(rows / scale[:, None])
    np.clip(levels, -half, half - 1, out=levels)
    levels *= scale[:, None]
    return levels


def correct_biases(model: ModelProto, ranges: TensorRanges, rounded_rows: Mapping[str, NDArray[np.float32]]) -> int:
    """Bias correction, in place: subtract the mean shift of weight rounding on the calibration images.

    The mean of an output channel moves by the sum of the weights' errors times the mean of the input channel that
    each meets [1]_, which the record has; padding, which brings zeros in, is accounted for.

    Parameters
    ----------
    model : ModelProto
        The cleaned graph.
    ranges : TensorRanges
        With the record that they were made of, and how much each group counts.
    rounded_rows : mapping
        By initializer, the rounded weight as (output channels, everything else); what is not here is not corrected.

    Returns
    -------
    int
        How many operators were corrected: Conv and Gemm whose input's channel means are known.

    References
    ----------
    .. [1] M. Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, eq. 17.
    """
    record = ranges.record
    group_weights = np.array([ranges.image_weights[group] for group in record.groups])
    shapes = {activation.name: activation.shape for activation in record.observed}
    corrected = 0
    for weight in weights_of(model):
        node, source = weight.node, _source(weight.node.input[0], model)
        means = record.channel_means(source, group_weights)
        if node.op_type == "MatMul" or means is None or weight.name not in rounded_rows:
            continue
        error = np.moveaxis(weight.values, weight.axis, 0).astype(np.float64)
        error = rounded_rows[weight.name].reshape(error.shape) - error
        if node.op_type == "Conv":
            if len(shapes[source]) != error.ndim - 1:  # reshaped to other axes, as for a convolution over channels
                continue
            error = (error * _coverage(node, error.shape[2:], shapes[source][1:])).sum(axis=tuple(range(2, error.ndim)))
        shift = _shift(error, means, attribute(node, "group", 1))
        if shift is not None:
            _subtract(model, node, shift)
            corrected += 1
    return corrected


def bias_of(node: NodeProto, model: ModelProto) -> NDArray[np.float32] | None:
    """Return the constant bias of a Conv or Gemm, flat; None where it has none."""
    bias = initializer_values(model.graph, node.input[2]) if len(node.input) > 2 else None
    return None if bias is None else bias.astype(np.float32).reshape(-1)


@dataclass(frozen=True)
class _Shares:
    """The best threshold so far of each row, as a share of its largest magnitude, and its error."""

    share: NDArray[np.float64]
    error: NDArray[np.float64]

    def tried(
        self, rows: NDArray[np.float32], unit: NDArray[np.float64], bits: int, candidates: NDArray[np.float64]
    ) -> _Shares:
        """Return the best after trying more shares, (candidates, rows); ``unit`` is the scale at the share 1."""
        share, error = self.share.copy(), self.error.copy()
        for candidate in np.clip(candidates, SMALLEST_SHARE[bits], 1):
            tried = _errors(rows, unit * candidate, bits)
            better = tried < error
            share[better], error[better] = candidate[better], tried[better]
        return _Shares(share, error)


def _errors(rows: NDArray[np.float32], scale: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    usable = np.where(scale > np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
    difference = rounded(rows, usable, bits)
    difference -= rows
    errors: NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference).astype(np.float64)
    return errors


def _source(name: str, model: ModelProto) -> str:
    """Follow a Flatten or a Reshape of one pixel per channel back to the map whose channel means are the same."""
    return origin(name, producers(model.graph), {"Flatten", "Reshape", "Squeeze", "Identity"})


def _shift(error: NDArray[np.float64], means: NDArray[np.float64], groups: int) -> NDArray[np.float64] | None:
    """Return the sum over input channels of error (out, in / groups) times mean (in,)."""
    if error.shape[1] * groups != len(means) or error.shape[0] % groups:
        return None
    per_group = error.reshape(groups, error.shape[0] // groups, error.shape[1])
    shift: NDArray[np.float64] = np.einsum("goi,gi->go", per_group, means.reshape(groups, -1)).reshape(-1)
    return shift


def _coverage(node: NodeProto, kernel: tuple[int, ...], size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return, per kernel tap, the share of output positions at which it is on the map, not on its padding."""
    dimensions = len(kernel)
    strides = attribute(node, "strides", [1] * dimensions)
    dilations = attribute(node, "dilations", [1] * dimensions)
    pads = attribute(node, "pads", [0] * 2 * dimensions)
    coverage = np.ones(kernel)
    for axis in range(dimensions):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        outputs = (size[axis] + pads[axis] + pads[axis + dimensions] - span) // strides[axis] + 1
        at = (
            np.arange(max(outputs, 1))[:, None] * strides[axis] - pads[axis] + np.arange(kernel[axis]) * dilations[axis]
        )
        inside = ((at >= 0) & (at < size[axis])).mean(axis=0)
        coverage *= inside.reshape([-1 if other == axis else 1 for other in range(dimensions)])
    return coverage


def _subtract(model: ModelProto, node: NodeProto, shift: NDArray[np.float64]) -> None:
    """Give the node its own bias, minus the shift."""
    from onnx import numpy_helper

    constants = initializers(model.graph)
    old = node.input[2] if len(node.input) > 2 else ""
    if old and old not in constants:
        return
    bias = values_of(constants[old]).astype(np.float64) if old else np.zeros_like(shift)
    if bias.size != shift.size or (node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0):
        return
    name = f"{node.input[1]}.corrected_bias"
    corrected = (bias.reshape(-1) - shift * attribute(node, "alpha", 1.0)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(corrected, name))
    while len(node.input) < 3:
        node.input.append("")
    node.input[2] = name
    if old and not any(old in other.input for other in model.graph.node):
        model.graph.initializer.remove(constants[old])
