"""The integers of a network's weights, taken from the exported graph: every runtime has the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fqbench.errors import DataError
from fqbench.quant.weights import correct_biases, scales, weights_of

from .fx import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fqbench.contracts.scheme import Scheme
    from fqbench.quant.ranges import TensorRanges


@dataclass(frozen=True)
class QuantizedWeight:
    """The weight of one convolution or linear layer.

    Attributes
    ----------
    levels : ndarray of int8
        In the shape of the torch parameter.
    scale : ndarray of float32, shape (channels,)
        Of each output channel.
    bias : ndarray of float32 or None
        None: that of the module stays.
    """

    levels: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32] | None


def quantized_weights(
    model: ModelProto,
    prepared: Prepared,
    scheme: Scheme,
    *,
    ranges: TensorRanges | None = None,
    learned: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, QuantizedWeight]:
    """Round the weights of a cleaned graph, by the path of the module that they belong to.

    Parameters
    ----------
    model : ModelProto
        The cleaned graph; its biases are changed where the scheme wants them corrected.
    prepared : Prepared
        The same network in FX, for the paths and shapes.
    scheme : Scheme
        Bits, weight rule and bias correction.
    ranges : TensorRanges, optional
        Of the activations, for the bias correction.
    learned : mapping, optional
        Scales by path, in place of those that the weight rule gives.

    Raises
    ------
    DataError
        A module has no counterpart in the graph: the two are not the same network.
    """
    found = {weight.path: weight for weight in weights_of(model)}
    missing = [path for path in prepared.weighted if path not in found]
    if missing:
        raise DataError(f"the exported graph has no weight of {', '.join(missing[:5])}; export the model again.")
    chosen = {path: found[path] for path in prepared.weighted}
    scale = {
        weight.name: scales(weight.rows, scheme.bits, scheme.weight_rule) if learned is None else learned[path]
        for path, weight in chosen.items()
    }
    if scheme.bias_correction == "on" and ranges is not None:
        others = {one.name: scales(one.rows, scheme.bits, scheme.weight_rule) for one in found.values()}
        correct_biases(model, ranges, others | scale, scheme.bits)
    half = 2 ** (scheme.bits - 1)
    result = {}
    for path, weight in chosen.items():
        levels = np.clip(np.rint(weight.rows / scale[weight.name][:, None]), -half, half - 1).astype(np.int8)
        shape = tuple(prepared.weighted[path].weight.shape)  # type: ignore[arg-type]
        result[path] = QuantizedWeight(levels.reshape(shape), scale[weight.name], _bias(weight.node, model))
    return result


def put_weights(prepared: Prepared, weights: Mapping[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
    """Give the modules of a prepared network these weights, and return their scales by path."""
    for path, module in prepared.weighted.items():
        weight = weights[path]
        shape = (-1, *(1,) * (weight.levels.ndim - 1))
        values = weight.levels.astype(np.float32) * weight.scale.reshape(shape)
        module.weight = nn.Parameter(torch.from_numpy(values), requires_grad=False)
        if weight.bias is not None:
            module.bias = nn.Parameter(torch.from_numpy(weight.bias.copy()), requires_grad=False)
    return {path: torch.from_numpy(weight.scale.copy()) for path, weight in weights.items()}


def pack(levels: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Pack levels of 8, 4 or 2 bits into bytes, the first in the lowest bits."""
    codes = (levels.reshape(-1).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    a_byte = 8 // bits
    codes = np.pad(codes, (0, -len(codes) % a_byte)).reshape(-1, a_byte)
    shifts = np.arange(a_byte, dtype=np.uint8) * np.uint8(bits)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts, axis=1)
    return packed


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the levels that `pack` packed."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    codes = (packed[:, None] >> shifts) & np.uint8(2**bits - 1)
    levels = codes.reshape(-1)[: int(np.prod(shape))].astype(np.int16) - 2 ** (bits - 1)
    unpacked: NDArray[np.int8] = levels.astype(np.int8).reshape(shape)
    return unpacked


def _bias(node: NodeProto, model: ModelProto) -> NDArray[np.float32] | None:
    from onnx import numpy_helper

    if len(node.input) < 3 or not node.input[2]:
        return None
    constant = next((tensor for tensor in model.graph.initializer if tensor.name == node.input[2]), None)
    return None if constant is None else numpy_helper.to_array(constant).astype(np.float32).reshape(-1)
