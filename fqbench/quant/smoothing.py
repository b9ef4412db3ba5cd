"""SmoothQuant: move outliers of activations after a LayerNormalization into the weights that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fqbench.onnx_graph import attribute, consumers, copied
from fqbench.quant.equalization import Constants, Rescaled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

ALPHA = 0.5
SMALLEST = 1e-5  # of a maximum; a channel that is always zero is left as it is


def smooth(model: ModelProto, maxima: Mapping[str, NDArray[np.float32]], *, alpha: float = ALPHA) -> Rescaled:
    r"""Divide the channels behind each LayerNormalization by factors, and multiply the weights that read them.

    The factor of channel j is :math:`\max|X_j|^\alpha / \max|W_j|^{1-\alpha}` [1]_, X over the calibration images and
    W over all weights that read the channel. It goes into scale and bias of the LayerNormalization, so nothing is
    computed that was not before. Only where every reader is a MatMul or Gemm with constant weights of its own.

    Parameters
    ----------
    model : ModelProto
        Cleaned (`fqbench.quant.graph.cleaned`); not changed.
    maxima : mapping
        Weight's name to the largest magnitude of each of its input channels, as
        `fqbench.quant.moments.InputMoments.maxima` has it; weights that are missing are left alone.
    alpha : float
        How much of the activations' spread goes into the weights, 0 to 1.

    Returns
    -------
    Rescaled
        The changed copy, and scales of LayerNormalization with the weights that read them. Second moments of inputs
        are others afterwards.

    References
    ----------
    .. [1] G. Xiao et al., "SmoothQuant: Accurate and efficient post-training quantization for large language models",
       ICML 2023, eq. 4.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    changed = copied(model)
    constants = Constants(changed)
    outputs, read_by = {output.name for output in changed.graph.output}, consumers(changed.graph)
    pairs = []
    for node in changed.graph.node:
        if node.op_type != "LayerNormalization" or node.output[0] in outputs:
            continue
        readers = read_by.get(node.output[0], [])
        channels = _channels(node, constants)
        if not channels or not readers or not all(_fits(reader, node, channels, constants) for reader in readers):
            continue
        if not all(reader.input[1] in maxima for reader in readers):
            continue
        name = node.input[1]
        _move(node, readers, maxima[readers[0].input[1]], alpha, constants)
        pairs.append((name, tuple(reader.input[1] for reader in readers)))
    return Rescaled(changed, tuple(pairs))


def _channels(node: NodeProto, constants: Constants) -> int:
    """Return the channels of a LayerNormalization over the last axis, or 0 where it is another or not constant."""
    biased = len(node.input) > 2 and bool(node.input[2])
    if not constants.has(node, 1) or (biased and not constants.has(node, 2)) or len(node.output) > 1:
        return 0
    scale = constants.get(node, 1)  # in the shape of the axes that are normalized
    return len(scale) if scale.ndim == 1 else 0


def _fits(reader: NodeProto, node: NodeProto, channels: int, constants: Constants) -> bool:
    if reader.op_type not in {"MatMul", "Gemm"} or node.output[0] in reader.input[1:]:
        return False
    if not constants.has(reader, 1) or not constants.own(reader, 1) or attribute(reader, "transA", 0):
        return False
    weight = constants.get(reader, 1)
    return weight.ndim == 2 and weight.shape[_input_axis(reader)] == channels


def _move(
    node: NodeProto, readers: list[NodeProto], maxima: NDArray[np.float32], alpha: float, constants: Constants
) -> None:
    of_weights = np.max([np.abs(_weight(reader, constants)).max(axis=1) for reader in readers], axis=0)
    live = (maxima > SMALLEST) & (of_weights > SMALLEST)
    factor = np.ones(len(maxima))
    factor[live] = maxima[live].astype(np.float64) ** alpha / of_weights[live].astype(np.float64) ** (1 - alpha)
    for position in (1, 2):
        if constants.has(node, position):
            constants.put(node, position, constants.get(node, position) / factor)
    for reader in readers:
        smoothed = _weight(reader, constants) * factor[:, None]
        constants.put(reader, 1, smoothed.T if _input_axis(reader) else smoothed)


def _weight(reader: NodeProto, constants: Constants) -> NDArray[np.float32]:
    """Return a weight as (inputs, outputs)."""
    weight = constants.get(reader, 1)
    return weight.T if _input_axis(reader) else weight


def _input_axis(reader: NodeProto) -> int:
    return 1 if reader.op_type == "Gemm" and attribute(reader, "transB", 0) else 0
