"""Variants of a plan in which some layers are quantized and the others stay in float, as graphs of ONNX Runtime.

A runtime places quantization nodes for all layers together, and fuses them. To see one layer at a time, its part of
the plan is simulated in float: the weights are replaced by their integers times their scales, and what the layer reads
goes through a QuantizeLinear and a DequantizeLinear of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fqbench.onnx_graph import copied, initializers
from fqbench.quant.activations import FUSED, VIEWS
from fqbench.quant.qdq import quantizable_types
from fqbench.reference_executor import reference_session

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from fqbench.contracts.plan import QuantizationPlan, QuantizedWeight
    from fqbench.contracts.qparams import QParams

# They hand on values of their input, or are computed inside the operator before them: no rounding of their own.
PASSIVE = FUSED | VIEWS
# Without it, the runtime would quantize float weights whose layer reads and feeds integers.
SETTINGS = {"session.disable_quant_qdq": "1"}


@dataclass(frozen=True)
class QuantizedPart:
    """One layer with weights, or all operators of one type without.

    Attributes
    ----------
    name : str
        Path of the layer's module, or the operator type.
    op : str
        Operator type.
    nodes : tuple of str
        Names of the operators.
    weight : str
        Name of the initializer of the weight; empty for operators without.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    weight: str = ""


def parts_of(plan: QuantizationPlan) -> tuple[QuantizedPart, ...]:
    """Return what a plan quantizes, in the order of the graph: layers with weights first, then types of operators."""
    nodes = {node.name: node for node in plan.model.graph.node}
    layers, others = [], dict[str, list[str]]()
    known = set(quantizable_types())
    for layer in plan.layers:
        if layer.weight:
            if layer.weight in plan.weights:
                layers.append(QuantizedPart(layer.name, layer.op, (layer.node,), layer.weight))
        elif not layer.is_float and layer.op in known - PASSIVE and _read(nodes[layer.node], plan):
            others.setdefault(layer.op, []).append(layer.node)
    return (*layers, *(QuantizedPart(f"all {op}", op, tuple(names)) for op, names in others.items()))


def simulated(graph: ModelProto, plan: QuantizationPlan, parts: Collection[QuantizedPart], side: str) -> ModelProto:
    """Return the graph with these parts quantized in float arithmetic.

    Parameters
    ----------
    graph : ModelProto
        The cleaned FP32 graph; not changed.
    plan : QuantizationPlan
        Its scales, zero points and integers.
    parts : collection of QuantizedPart
        What is quantized; everything else stays in float.
    side : {"weights", "activations", "both"}
        Which side of them.
    """
    model = copied(graph)
    chosen = {name for part in parts for name in part.nodes}
    weights = {part.nodes[0]: plan.weights[part.weight] for part in parts if part.weight}
    nodes = []
    for node in model.graph.node:
        if side != "activations" and node.name in weights:
            _round_weight(model, node, weights[node.name])
        if side != "weights" and node.name in chosen:
            for place, name in _read(node, plan):
                nodes += _rounding(model, f"{node.name}.{place}", name, plan.activations[name])
                node.input[place] = f"{node.name}.{place}.rounded"
        nodes.append(copied(node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class SimulatedSession:
    """A loaded variant."""

    def __init__(self, model: ModelProto, threads: int) -> None:
        self._session = reference_session(model.SerializeToString(), threads=threads, settings=SETTINGS)
        self._input = self._session.get_inputs()[0].name

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, 3, H, W) to logits (N, classes)."""
        logits: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return logits


def _read(node: NodeProto, plan: QuantizationPlan) -> list[tuple[int, str]]:
    """Return the places and names of the activations with a range that an operator reads."""
    return [(place, name) for place, name in enumerate(node.input) if name in plan.activations]


def _round_weight(model: ModelProto, node: NodeProto, weight: QuantizedWeight) -> None:
    """Give a node its weight as the integers stand for it, and its corrected bias."""
    from onnx import numpy_helper

    shape = [1] * weight.levels.ndim
    shape[weight.axis] = -1
    values = weight.levels.astype(np.float32) * weight.scale.reshape(shape)
    initializers(model.graph)[weight.name].CopyFrom(numpy_helper.from_array(values, weight.name))
    if weight.bias is not None:
        while len(node.input) < 3:
            node.input.append("")
        node.input[2] = f"{node.name}.bias"
        model.graph.initializer.append(numpy_helper.from_array(weight.bias, node.input[2]))


def _rounding(model: ModelProto, prefix: str, name: str, levels: QParams) -> list[NodeProto]:
    """Return the nodes that round one activation to its levels."""
    from onnx import helper, numpy_helper

    def constant(what: str, value: Any) -> str:
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), f"{prefix}.{what}"))
        return f"{prefix}.{what}"

    ends = [constant(what, np.float32(end)) for what, end in (("low", levels.low), ("high", levels.high))]
    stored = np.uint16 if levels.bits > 8 else np.uint8
    scale = [constant("scale", np.float32(levels.scale)), constant("zero_point", stored(levels.zero_point))]
    # Types of fewer bits are stored in 8, so the clip is what makes their levels the only ones.
    return [
        helper.make_node("Clip", [name, *ends], [f"{prefix}.clipped"], name=f"{prefix}.clip"),
        helper.make_node("QuantizeLinear", [f"{prefix}.clipped", *scale], [f"{prefix}.levels"], name=f"{prefix}.q"),
        helper.make_node("DequantizeLinear", [f"{prefix}.levels", *scale], [f"{prefix}.rounded"], name=f"{prefix}.dq"),
    ]
