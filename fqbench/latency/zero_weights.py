"""Refuse to time models whose weights are all zeros: a compiler may remove the branch after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fqbench.errors import DataError, InputError
from fqbench.onnx_graph import constants, origin, producers, values_of

if TYPE_CHECKING:
    import onnx

# Which inputs of an operator hold weights or scales; a product with nothing but zeros can be left out by a compiler.
WEIGHT_INPUTS = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "BatchNormalization": (1,),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
}
# These pass their first input's zeros on.
RESHAPING = frozenset(
    {"Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze", "Flatten", "DequantizeLinear"}
)


def refuse_zero_weights(path: Path) -> None:
    """Check that no weight and no normalization scale of an ONNX model consists of zeros alone.

    Parameters
    ----------
    path : Path
        The FP32 model; external data are read from the same folder.

    Raises
    ------
    DataError
        A weight of a Conv, Gemm or MatMul, or a scale of a BatchNormalization, is all zeros; the message names it.
    InputError
        The file is missing, or no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path)
    except OSError as error:
        raise InputError(f"the model {path} cannot be read ({error.strerror or error}); check its path.") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} is not an ONNX model ({error}); export it again.") from error
    for node, name in zero_weights(model.graph):
        raise DataError(
            f"{path.name} cannot be timed: {name!r}, a weight of {node.op_type} {node.name or node.output[0]!r}, is "
            "all zeros, and a compiler may remove the operator; train the model, or draw its weights at random."
        )


def zero_weights(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Yield the nodes, and the names of their weights, that consist of zeros alone."""
    known, made_by = constants(graph), producers(graph)
    for node in graph.node:
        for position in WEIGHT_INPUTS.get(node.op_type, ()):
            if position >= len(node.input):
                continue
            name = origin(node.input[position], made_by, RESHAPING)
            if name in known and not values_of(known[name]).any():
                yield node, name
