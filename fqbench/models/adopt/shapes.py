"""Shapes of an adopted graph: fix height and width, and make the batch dynamic if that is exact."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError
from fqbench.models.adopt.graph import FLOAT, Editor, called, dimensions
from fqbench.onnx_graph import attribute
from fqbench.optional import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

BATCH = "batch"
OPTIMIZED = "com.microsoft"  # domain of the operators that ONNX Runtime's optimizations make
BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Pow"})
MAX_MESSAGE = 2_000_000_000  # bytes; a protobuf message ends there


def set_input_shape(model: ModelProto, shape: tuple[int | str, ...]) -> None:
    """Set the shape of the input, and remove every shape inferred from the old one."""
    sizes = model.graph.input[0].type.tensor_type.shape
    del sizes.dim[:]
    for size in shape:
        if isinstance(size, int):
            sizes.dim.add().dim_value = size
        else:
            sizes.dim.add().dim_param = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def folded(model: ModelProto) -> ModelProto:
    """Return the graph with constants folded by ONNX Runtime's basic optimizations.

    Raises
    ------
    InputError
        ONNX Runtime cannot load the graph; the message has its reason, which names the operator.
    """
    import onnx

    onnxruntime = require("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="fqbench-adopt-") as folder:
        out = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(out)
        if model.ByteSize() > MAX_MESSAGE // 2:
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "folded.data")
        source: Any = model.SerializeToString() if model.ByteSize() < MAX_MESSAGE else Path(folder) / "model.onnx"
        if isinstance(source, Path):
            onnx.save(model, source, save_as_external_data=True, location="model.data")
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        result = onnx.load(out)
    used = {node.domain for node in result.graph.node}
    kept = [entry for entry in result.opset_import if entry.domain == "" or entry.domain in used]
    imports = [(entry.domain, entry.version) for entry in kept]
    del result.opset_import[:]
    for domain, version in imports:
        result.opset_import.add(domain=domain, version=version)
    return result


def inferred(model: ModelProto) -> ModelProto:
    """Return the graph with the shapes of all values that can be inferred."""
    from onnx import shape_inference

    del model.graph.value_info[:]
    return shape_inference.infer_shapes(model, data_prop=True)


def freed(model: ModelProto) -> ModelProto:
    """Return a folded graph with a dynamic batch: constants that contain the fixed batch size are rewritten.

    Whether the result is exact is for the caller to check by running it on batches of other sizes.
    """
    model = inferred(model)
    editor = Editor(model)
    shapes = {value.name: dimensions(value) for value in (*model.graph.value_info, *model.graph.input)}
    shapes |= {value.name: dimensions(value) for value in model.graph.output}
    batch = dimensions(editor.input)[0]
    for node in list(model.graph.node):
        if node.op_type == "Reshape":
            _free_reshape(editor, node, shapes)
        elif node.op_type == "Expand":
            _free_first(editor, node, 1, batch)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            _free_resize(editor, node)
        elif node.op_type == "Concat":
            _free_concat(editor, node, shapes, batch)
        elif len(node.input) > 1:
            _free_broadcast(editor, node, shapes, batch)
    editor.sort()
    set_input_shape(model, (BATCH, *dimensions(editor.input)[1:]))
    return model


def _free_reshape(editor: Editor, node: NodeProto, shapes: dict[str, list[int | str]]) -> None:
    before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    target = editor.constant(node.input[1])
    if target is None or not before or not after or not all(isinstance(size, int) for size in (*before, *after)):
        return
    first = 0 if before[0] == after[0] else -1
    name = editor.add_constant(np.asarray([first, *after[1:]], dtype=np.int64), f"{node.input[1]}.free")
    node.input[1] = name
    kept = [entry for entry in node.attribute if entry.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _free_first(editor: Editor, node: NodeProto, position: int, batch: int | str) -> None:
    """Make an Expand take the batch size from its input."""
    target = editor.constant(node.input[position])
    if target is not None and target.size and target[0] == batch:
        free = np.asarray([1, *target[1:]], dtype=np.int64)
        node.input[position] = editor.add_constant(free, f"{node.input[position]}.free")


def _free_resize(editor: Editor, node: NodeProto) -> None:
    from onnx import helper

    sizes = editor.constant(node.input[3])
    if sizes is None or attribute(node, "axes") is not None:
        return
    node.input[3] = editor.add_constant(sizes[1:], f"{node.input[3]}.free")
    node.attribute.append(helper.make_attribute("axes", list(range(1, len(sizes)))))


def _free_concat(editor: Editor, node: NodeProto, shapes: dict[str, list[int | str]], batch: int | str) -> None:
    """Expand a constant with one entry per image, such as a class token, to the batch that it is concatenated with."""
    rank = len(shapes.get(node.output[0], []))
    axis = attribute(node, "axis", 0)
    computed = [name for name in node.input if editor.constant(name) is None]
    if not rank or axis % rank == 0 or not computed:
        return
    for index, name in enumerate(node.input):
        values = editor.constant(name)
        if values is None or values.ndim != rank or values.shape[0] != batch or (values != values[:1]).any():
            continue
        one = editor.add_constant(values[:1], f"{name}.one")
        count = editor.add_node("Shape", [computed[0]], f"{name}.count", start=0, end=1)
        rest = editor.add_constant(np.asarray(values.shape[1:], dtype=np.int64), f"{name}.rest")
        shape = editor.add_node("Concat", [count, rest], f"{name}.shape", axis=0)
        node.input[index] = editor.add_node("Expand", [one, shape], f"{name}.expanded")


def _free_broadcast(editor: Editor, node: NodeProto, shapes: dict[str, list[int | str]], batch: int | str) -> None:
    """Take one row of a constant that repeats itself for every image of the batch."""
    rank = len(shapes.get(node.output[0], []))
    for index, name in enumerate(node.input):
        values = editor.constant(name)
        repeated = values is not None and values.ndim == rank > 1 and values.shape[0] == batch != 1
        if repeated and values is not None and (values == values[:1]).all() and node.op_type in BROADCASTING:
            node.input[index] = editor.add_constant(values[:1], f"{name}.one")


def require_known_shapes(model: ModelProto, path: Path) -> None:
    """Raise an error if a graph has shapes that depend on the values of its pictures.

    Raises
    ------
    InputError
        No convolution or matrix product has an output of a known shape.
    """
    known = {
        value.name
        for value in (*model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == FLOAT and value.type.tensor_type.HasField("shape")
    }
    weighted = [node for node in model.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
    if weighted and not any(node.output[0] in known for node in weighted):
        fused = next((node for node in model.graph.node if node.domain == OPTIMIZED), None)
        if fused is not None:
            raise InputError(
                f"{path} was optimized for ONNX Runtime ({called(fused)} is an operator of its own); give the file "
                "from before that."
            )
        raise InputError(
            f"{path} has activation shapes that depend on the image (the shape of {called(weighted[0])} is unknown); "
            "export it with a fixed height and width."
        )
