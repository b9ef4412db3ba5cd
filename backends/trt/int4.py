"""INT4 weights for TensorRT: weight-only, in blocks, for matrix products; written by onnxruntime's quantizer.

Source: "Working with Quantized Types" (INT4 is weight-only) and IDequantizeLayer (blocks along the last or second to
last axis, which they divide without remainder), below https://docs.nvidia.com/deeplearning/tensorrt/latest/.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import SchemeNotSupported
from fqbench.onnx_graph import initializers
from fqbench.quant.graph import quiet_quantizer
from fqbench.quant.qdq_graph import QdqGraph
from fqbench.quant.weights import scales

from .rules import require_rules

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

BLOCKS = (128, 64, 32)


def write_int4(
    model: ModelProto, out: Path, floats: Collection[str] = (), *, weight_rule: str = "minmax"
) -> dict[str, str]:
    """Write a model whose matrix products have INT4 weights.

    onnxruntime rewrites the graph; its scales, though, carry the sign of each block's extreme value, and TensorRT takes
    only positive ones, so scales and integers are computed again.

    Parameters
    ----------
    model : ModelProto
        Cleaned FP32 graph; it is used up.
    out : Path
        Where to write.
    floats : collection of str
        Operators that stay in float.
    weight_rule : str
        How the scale of a block is found, ``minmax`` or ``mse``.

    Returns
    -------
    dict
        Matrix products left in float, and why.

    Raises
    ------
    SchemeNotSupported
        It has none that blocks divide: nothing of it can be INT4 on TensorRT.
    """
    import onnx

    graph = QdqGraph(model.graph)
    weights = {node.name: node.input[1] for node in graph.nodes("MatMul") if _is_matrix(graph.value(node.input[1]))}
    values = {name: np.array(graph.value(weight)) for name, weight in weights.items()}
    block = next((size for size in BLOCKS if any(len(one) % size == 0 for one in values.values())), None)
    if block is None:
        raise SchemeNotSupported(
            "TensorRT's INT4 is for constant weights of matrix products, and this model has none with a multiple of "
            f"{BLOCKS[-1]} rows; try --bits 8."
        )
    excluded = {name: f"blocks of {block} do not divide {len(one)}" for name, one in values.items() if len(one) % block}
    excluded |= {name: "the recipe leaves it in float" for name in values if name in floats}
    chosen = values.keys() - excluded.keys()
    results = {node.output[0]: node.name for node in graph.nodes("MatMul") if node.name in chosen}
    quantized = _rewritten(model, block, list(excluded))
    for node in QdqGraph(quantized.graph).nodes("MatMul"):
        if node.output[0] in results:  # the rewriting renames the node and keeps its result
            _requantize(quantized.graph, node, values[results[node.output[0]]], block, weight_rule)
    onnx.save(quantized, out)
    require_rules(out)
    return excluded


def _is_matrix(value: NDArray[Any] | None) -> bool:
    return value is not None and value.ndim == 2


def _rewritten(model: ModelProto, block: int, excluded: list[str]) -> Any:
    with quiet_quantizer():  # it logs each node
        from onnxruntime.quantization import QuantFormat
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

        config = DefaultWeightOnlyQuantConfig(
            block_size=block, is_symmetric=True, quant_format=QuantFormat.QDQ, op_types_to_quantize=("MatMul",)
        )
        quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=excluded)
        quantizer.process()
        return quantizer.model.model


def _requantize(graph: GraphProto, node: NodeProto, weight: NDArray[np.float32], block: int, rule: str) -> None:
    """Give the DequantizeLinear before a matrix product positive scales, and the integers that go with them."""
    from onnx import TensorProto, helper, numpy_helper

    pair = QdqGraph(graph).producers[node.input[1]]
    depth, width = weight.shape
    rows = weight.reshape(depth // block, block, width).transpose(0, 2, 1).reshape(-1, block)
    scale = scales(rows, 4, rule)
    levels = np.clip(np.rint(rows / scale[:, None]), -8, 7).astype(np.int8)
    integers = levels.reshape(depth // block, width, block).transpose(0, 2, 1).reshape(depth, width)
    tensors = initializers(graph)
    given = numpy_helper.from_array(scale.reshape(depth // block, width), pair.input[1])
    tensors[pair.input[1]].CopyFrom(given)
    packed = helper.make_tensor(pair.input[0], TensorProto.INT4, [depth, width], integers.reshape(-1).tolist())
    tensors[pair.input[0]].CopyFrom(packed)
