"""Read and check a user's ONNX file; convert it to one opset, one output, and constants as initializers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.errors import InputError, did_you_mean
from fqbench.models.adopt.graph import Editor, called, dimensions
from fqbench.models.adopt.heads import join_sigmoids
from fqbench.onnx_graph import attribute, constants, copied, opset_of, true_inputs, values_of
from fqbench.storage import refuse_pointer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET = 21
LEAST_IR = 8  # from 4 on a constant need not be an input, too
QUANTIZED = frozenset(
    {
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "QLinearAdd",
        "ConvInteger",
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
    }
)
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
TRACE = re.compile(r"^\S+\.(h|cc|cpp):\d+: .*? failed: ")  # where in its source a C++ library gave up
VALUES_OF_CONSTANT = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def load(path: Path) -> ModelProto:
    """Read a model with its external data.

    Raises
    ------
    InputError
        There is no such file, it is not ONNX, its external data are missing, or it is quantized already.
    """
    import onnx

    if not path.is_file():
        raise InputError(f"no ONNX file {path}; check --onnx.")
    refuse_pointer(path)
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node:
            raise ValueError("it has no node")
        if not model.graph.output:
            raise ValueError("it has no output")
    except Exception as error:
        raise InputError(f"{path} is not a valid ONNX model ({_reason(error)}); export it again.") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise InputError(
            f"the external data of {path} cannot be read ({_reason(error)}); keep its files in the same folder."
        ) from error
    version = opset_of(model)
    if version > onnx.defs.onnx_opset_version():
        raise InputError(
            f"{path} has opset {version}, and the installed onnx knows opsets up to {onnx.defs.onnx_opset_version()}; "
            f"install a newer onnx, or export it with opset {OPSET}."
        )
    random = next((node for node in model.graph.node if node.op_type in RANDOM), None)
    if random is not None:
        raise InputError(f"{path} draws random numbers ({called(random)}); export it in evaluation mode.")
    known = constants(model.graph)
    trains = next((node for node in model.graph.node if _trains(node, known)), None)
    if trains is not None:
        raise InputError(
            f"{path} is in training mode ({called(trains)}): its answers depend on chance or on the other images; "
            "export it in evaluation mode, as after model.eval()."
        )
    quantized = next((node for node in model.graph.node if node.op_type in QUANTIZED), None)
    if quantized is not None:
        raise InputError(f"{path} is quantized already ({called(quantized)}); give the FP32 model it was made from.")
    return model


def _trains(node: NodeProto, known: Mapping[str, TensorProto]) -> bool:
    """Whether a node computes what it computes in training: statistics of the batch, or a dropout that drops."""
    if node.op_type == "BatchNormalization":
        return bool(attribute(node, "training_mode", 0))
    if node.op_type != "Dropout" or len(node.input) < 3:
        return False
    mode, ratio = (known.get(node.input[place]) for place in (2, 1))
    drops = ratio is None or bool(values_of(ratio).any())
    return mode is not None and bool(values_of(mode).any()) and drops


def unify(model: ModelProto, output: str | None, path: Path) -> ModelProto:
    """Return the model at opset 21 with constants as initializers, one output, and no functions or half precision.

    Parameters
    ----------
    model : ModelProto
        As `load` returns it; it is not changed.
    output : str or None
        Name of the output to use.
    path : Path
        For messages.

    Raises
    ------
    InputError
        Several inputs, several outputs and none chosen, or an operator that cannot be brought to opset 21.
    """
    from onnx import inliner

    model = inliner.inline_local_functions(model, True) if model.functions else copied(model)
    _choose_output(model, output, path)
    inputs = true_inputs(model.graph)
    if len(inputs) != 1:
        listed = ", ".join(value.name for value in inputs) or "none"
        raise InputError(f"{path} has {len(inputs)} inputs ({listed}); a classifier with one image input is needed.")
    if not inputs[0].type.tensor_type.HasField("shape"):
        raise InputError(
            f"{path} does not say what shape its input {inputs[0].name} has; write it into the file, as "
            "onnx.tools.update_model_dims does, with 3 channels and perhaps a free batch, height and width."
        )
    kept = [copied(value) for value in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    del model.graph.value_info[:]
    model.ir_version = max(model.ir_version, LEAST_IR)
    model = raised(model, path)
    _constants_to_initializers(model)
    Editor(model).prune()
    if not Editor(model).readers(kept[0].name):
        raise InputError(
            f"the output {model.graph.output[0].name} of {path} does not depend on its input; choose another one with "
            "--output NAME."
        )
    join_sigmoids(Editor(model))
    to_float32(model)
    _spread_biases(Editor(model))
    return model


def raised(model: ModelProto, path: Path) -> ModelProto:
    """Return the model at opset 21.

    Raises
    ------
    InputError
        An operator has no form at opset 21; the message names it.
    """
    from onnx import checker, helper, version_converter

    version = opset_of(model)
    if version != OPSET:
        if version == 10:
            _upsample_to_resize(model)
        try:
            model = version_converter.convert_version(model, OPSET)
            checker.check_model(model)
        except Exception as error:
            raise InputError(
                f"{path} cannot be converted from opset {version} to {OPSET} ({_reason(error)}); export it with "
                f"opset {OPSET}, or replace that operator."
            ) from error
    model.ir_version = max(model.ir_version, helper.find_min_ir_version_for([helper.make_opsetid("", OPSET)]))
    return model


def to_float32(model: ModelProto) -> None:
    """Turn all half and double precision numbers of a graph into float32, in place."""
    import onnx
    from onnx import numpy_helper

    kinds = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}

    def convert(tensor: Any) -> None:
        if tensor.data_type in kinds:
            values = values_of(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    for tensor in model.graph.initializer:
        convert(tensor)
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                convert(entry.t)
            if (node.op_type, entry.name) in {("Cast", "to"), ("RandomNormalLike", "dtype")} and entry.i in kinds:
                entry.i = onnx.TensorProto.FLOAT
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in kinds:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _choose_output(model: ModelProto, output: str | None, path: Path) -> None:
    """Keep only the named output; without a name, the only one."""
    values = {value.name: value for value in model.graph.output}
    if output is not None and output not in values:
        inner = {name for node in model.graph.node for name in node.output}
        if output not in inner:
            raise InputError(f"{path} has no output {output!r} for --output: {did_you_mean(output, values)}")
        import onnx

        values[output] = onnx.ValueInfoProto(name=output)
        values[output].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    if output is None and len(values) > 1:
        listed = ", ".join(f"{name} {dimensions(value)}" for name, value in values.items())
        raise InputError(f"{path} has {len(values)} outputs ({listed}); choose the classes' with --output NAME.")
    chosen = copied(values[output] if output is not None else next(iter(values.values())))
    if not chosen.type.HasField("tensor_type"):
        maker = next(node for node in model.graph.node if chosen.name in node.output)
        raise InputError(
            f"{path} answers with a {chosen.type.WhichOneof('value')} made by {called(maker)}; choose its input as "
            f"output: --output {maker.input[0]}."
        )
    _require_scores(model, chosen, path)
    del model.graph.output[:]
    model.graph.output.append(chosen)


def _require_scores(model: ModelProto, chosen: Any, path: Path) -> None:
    """Raise an error for an output of whole numbers, truth values or text: a decision, where scores are needed."""
    from onnx import TensorProto

    kind = chosen.type.tensor_type.elem_type
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED}
    if kind in floats:
        return
    maker = next((node for node in model.graph.node if chosen.name in node.output), None)
    scores = [name for name in maker.input if name] if maker is not None else []
    help_with = f"choose what it is made of: --output {scores[0]}" if scores else "choose scores with --output NAME"
    raise InputError(
        f"{path} answers with {chosen.name} of type {TensorProto.DataType.Name(kind).lower()}, which is a decision; "
        f"scores or probabilities are needed: {help_with}."
    )


def _constants_to_initializers(model: ModelProto) -> None:
    from onnx import numpy_helper

    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant":
            kept.append(copied(node))
            continue
        name = node.attribute[0].name
        values = attribute(node, name)
        if name == "value":
            values = values_of(values)
        elif name not in VALUES_OF_CONSTANT:
            kept.append(copied(node))  # sparse or text: the runtime knows what to do with it
            continue
        array = np.asarray(values, dtype=VALUES_OF_CONSTANT.get(name))
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _spread_biases(editor: Editor) -> None:
    """Give every Gemm a bias of one number per output: quantizers take no scalar, and no row of a matrix."""
    for node in editor.graph.node:
        bias = editor.constant(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        weight = editor.constant(node.input[1]) if bias is not None else None
        if bias is None or weight is None:
            continue
        outputs = weight.shape[0 if attribute(node, "transB", 0) else 1]
        if bias.shape != (outputs,) and bias.size in {1, outputs}:
            spread = np.broadcast_to(bias.reshape(-1), (outputs,))
            node.input[2] = editor.add_constant(spread, f"{node.input[2]}.spread")


def _upsample_to_resize(model: ModelProto) -> None:
    """Opset 10 has both Upsample and its successor Resize, which computes the same; the converter skips it."""
    for node in model.graph.node:
        if node.op_type == "Upsample":
            node.op_type = "Resize"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return TRACE.sub("", (lines or [type(error).__name__])[0])[:200]
