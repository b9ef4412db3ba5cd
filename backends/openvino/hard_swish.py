"""Write hard-swish as one operator again, which OpenVINO computes inside the convolution before it.

onnxruntime's optimizer, which cleans graphs, writes it out as HardSigmoid and Mul. OpenVINO does not put these two
together, and computes its HardSigmoid by a reference kernel over floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fqbench.onnx_graph import attribute, consumers, opset_of, producers

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FIRST_OPSET = 14  # of HardSwish
ALPHA, BETA = 1 / 6, 0.5  # HardSwish(x) = x * HardSigmoid(x; 1/6, 0.5), as the standard defines it


def restore_hard_swish(model: ModelProto) -> int:
    """Put each product of a tensor and its hard sigmoid together, in place; return how many there were."""
    graph = model.graph
    if opset_of(model) < FIRST_OPSET:
        return 0
    made_by, read_by = producers(graph), consumers(graph)
    kept = {output.name for output in graph.output}
    found = 0
    for node in [node for node in graph.node if node.op_type == "Mul"]:
        gate = next((one for name in node.input if (one := made_by.get(name)) is not None and _is_gate(one)), None)
        if gate is None or set(node.input) != {gate.input[0], gate.output[0]}:
            continue
        if len(read_by[gate.output[0]]) != 1 or gate.output[0] in kept:
            continue
        node.op_type = "HardSwish"
        node.input[:] = [gate.input[0]]
        graph.node.remove(gate)
        found += 1
    return found


def _is_gate(node: NodeProto) -> bool:
    given = (attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5))
    return node.op_type == "HardSigmoid" and bool(np.allclose(given, (ALPHA, BETA), rtol=1e-6))
