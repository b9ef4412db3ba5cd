"""A float32 graph in half precision: its weights and operators in float16, images and logits still in float32.

Written by hand because it is small: weights become float16, the one input is cast at the beginning and the one output
at the end, and nothing else changes but the few places where ONNX demands float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import DataError
from fqbench.onnx_graph import copied, true_inputs, values_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

# Inputs that ONNX wants in float32 whatever the type of the data.
KEPT_FLOAT = {"Resize": (1, 2), "Upsample": (1,)}


def half_graph(path: Path) -> ModelProto:
    """Return a float32 model with float16 operators between a float32 input and a float32 output.

    Parameters
    ----------
    path : Path
        The FP32 model: one input and one output.

    Raises
    ------
    DataError
        A weight is larger than 65504, the largest float16.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    kept = set(_kept_in_float(graph))
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _shorten(tensor, tensor.name, path)
    for node in graph.node:
        _retype(node, kept, path)
    del graph.value_info[:]
    _cast_ends(graph)
    onnx.checker.check_model(model)
    return model


def rounded_to_half(path: Path) -> ModelProto:
    """Return a float32 model whose weights, and the results of whose operators, are rounded to float16.

    It stands for `half_graph` where no kernel computes in float16. Sums inside an operator keep more digits than some
    float16 kernels do, so these are the smallest differences to expect.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    kept = set(_kept_in_float(graph))
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in kept:
            name = tensor.name
            rounded = _halved(values_of(tensor), name, path).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, name))
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    rounded_names = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT}
    _insert_rounding(graph, rounded_names)
    return model


def _kept_in_float(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        for position in KEPT_FLOAT.get(node.op_type, ()):
            yield from node.input[position : position + 1]


def _retype(node: NodeProto, kept: set[str], path: Path) -> None:
    """Turn what a node itself says about float32 into float16."""
    from onnx import TensorProto

    for attribute in node.attribute:
        if attribute.name in {"to", "dtype"} and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.HasField("t") and not kept.intersection(node.output):
            _shorten(attribute.t, attribute.t.name, path)


def _shorten(tensor: TensorProto, name: str, path: Path) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(_halved(values_of(tensor), name, path), name))


def _halved(values: Any, name: str, path: Path) -> Any:
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise DataError(
            f"{path.name} cannot be cast to fp16: {name!r} holds {largest:.3g}, more than its largest number (65504); "
            "use --precision bf16."
        )
    return values.astype(np.float16)


def _cast_ends(graph: GraphProto) -> None:
    """Put a cast after the input, and one before the output."""
    from onnx import TensorProto, helper

    source = true_inputs(graph)[0].name
    result = graph.output[0].name
    inside, computed = f"{source}_fp16", f"{result}_fp16"
    for node in graph.node:
        _rename(node.input, source, inside)
        _rename(node.input, result, computed)
        _rename(node.output, result, computed)
    graph.node.insert(0, helper.make_node("Cast", [source], [inside], name=f"{inside}_cast", to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [computed], [result], name=f"{result}_cast", to=TensorProto.FLOAT))


def _insert_rounding(graph: GraphProto, floats: set[str]) -> None:
    """Round every float tensor to float16 and back, the input first."""
    from onnx import TensorProto, helper

    def pair(source: str, target: str) -> list[NodeProto]:
        between = f"{target}_fp16"
        return [
            helper.make_node("Cast", [source], [between], name=f"{between}_down", to=TensorProto.FLOAT16),
            helper.make_node("Cast", [between], [target], name=f"{between}_up", to=TensorProto.FLOAT),
        ]

    source = true_inputs(graph)[0].name
    nodes: list[NodeProto] = pair(source, f"{source}_rounded")
    for node in graph.node:
        _rename(node.input, source, f"{source}_rounded")
        after: list[NodeProto] = []
        for name in list(node.output):
            if name in floats:
                _rename(node.output, name, f"{name}_exact")
                after += pair(f"{name}_exact", name)
        nodes += [node, *after]
    kept = [copied(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _rename(names: Any, old: str, new: str) -> None:
    for position, name in enumerate(names):
        if name == old:
            names[position] = new
