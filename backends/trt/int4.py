"""INT4 weights for TensorRT: weight-only, in blocks, for matrix products; written by onnxruntime's quantizer.

Source: "Working with Quantized Types" (INT4 is weight-only) and IDequantizeLayer (blocks along the last or second to
last axis, which they divide without remainder), below https://docs.nvidia.com/deeplearning/tensorrt/latest/.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import SchemeNotSupported

from .qdq_graph import QdqGraph
from .rules import require_rules

if TYPE_CHECKING:
    from onnx import ModelProto

BLOCKS = (128, 64, 32)


def write_int4(model: ModelProto, out: Path) -> dict[str, str]:
    """Write a model whose matrix products have INT4 weights.

    Parameters
    ----------
    model : ModelProto
        Cleaned FP32 graph; it is used up.
    out : Path
        Where to write.

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
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    graph = QdqGraph(model.graph)
    depths = {}
    for node in graph.nodes("MatMul"):
        weight = graph.value(node.input[1])
        if weight is not None and weight.ndim == 2:
            depths[node.name] = int(weight.shape[0])
    block = next((size for size in BLOCKS if any(depth % size == 0 for depth in depths.values())), None)
    if block is None:
        raise SchemeNotSupported(
            "TensorRT's INT4 is for constant weights of matrix products, and this model has none that blocks of "
            f"{BLOCKS[-1]} divide; try --bits 8."
        )
    excluded = {name: f"blocks of {block} do not divide {depth}" for name, depth in depths.items() if depth % block}
    config = DefaultWeightOnlyQuantConfig(
        block_size=block, is_symmetric=True, quant_format=QuantFormat.QDQ, op_types_to_quantize=("MatMul",)
    )
    quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=list(excluded))
    quantizer.process()
    onnx.save(quantizer.model.model, out)
    require_rules(out)
    return excluded
