"""Graphs that are no classifier of images, or one with a catch: each is refused in one sentence that helps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fqbench.config import configure
from fqbench.errors import DataError, InputError
from fqbench.models.adopt import Adopted, Meaning, adopt, read_source
from tests.models.adopt.network import SIZE, pictures

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
PIXELS, _ATTRIBUTES = pictures(8, seed=5)
node, value = helper.make_node, helper.make_tensor_value_info
IMAGES = value("images", FLOAT, ["N", 3, SIZE, SIZE])


def constant(name: str, values: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


RNG = np.random.default_rng(0)
WEIGHTS = (
    constant("w", RNG.normal(size=(8, 3, 3, 3)).astype(np.float32)),
    constant("h", RNG.normal(size=(8, 2)).astype(np.float32)),
)
BODY = (
    node("Conv", ["images", "w"], ["c"]),
    node("GlobalAveragePool", ["c"], ["p"]),
    node("Flatten", ["p"], ["f"]),
    node("Gemm", ["f", "h"], ["logits"]),
)
NET = [value("logits", FLOAT, ["N", 2])]


def graph(
    nodes: Sequence[Any], outputs: Sequence[Any] = NET, *, inputs: Sequence[Any] = (IMAGES,), **options: Any
) -> ModelProto:
    constants = [*WEIGHTS, *options.get("constants", ())]
    read = {name for each in nodes for name in each.input}
    made = helper.make_graph(nodes, "hostile", inputs, outputs, [one for one in constants if one.name in read])
    domains = {"": options.get("opset", 17), **options.get("domains", {})}
    sets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(made, opset_imports=sets, ir_version=8)


def maps() -> Any:
    of = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, None))
    return helper.make_value_info("maps", helper.make_sequence_type_proto(of))


def sequence() -> Any:
    of = helper.make_tensor_type_proto(FLOAT, ["N", 2])
    return helper.make_value_info("sequence", helper.make_sequence_type_proto(of))


ZIPPED = [
    *BODY,
    node("Softmax", ["logits"], ["chances"], axis=1),
    node("ZipMap", ["chances"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]),
]
REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "video": (
        lambda: graph(
            [node("ReduceMean", ["images"], ["logits"], axes=[2, 3, 4], keepdims=0)],
            inputs=[value("images", FLOAT, ["N", 3, 8, SIZE, SIZE])],
        ),
        r"takes \(N, 3, 8, 32, 32\); images of shape \(N, 3, H, W\)",
    ),
    "no shape": (
        lambda: graph(BODY, inputs=[value("images", FLOAT, None)]),
        "does not say what shape its input images has; write it into the file",
    ),
    "text": (
        lambda: graph(
            [node("Gather", ["words", "images"], ["logits"])],
            inputs=[value("images", INT64, ["N", 16])],
            constants=[constant("words", np.ones((9, 2), np.float32))],
        ),
        r"takes \(N, 16\); images of shape",
    ),
    "decided": (
        lambda: graph([*BODY, node("ArgMax", ["logits"], ["label"], axis=1)], [value("label", INT64, ["N", 1])]),
        "answers with label of type int64, which is a decision; .* --output logits",
    ),
    "truth values": (
        lambda: graph(
            [*BODY, node("Greater", ["logits", "zero"], ["yes"])],
            [value("yes", TensorProto.BOOL, ["N", 2])],
            constants=[constant("zero", np.float32(0))],
        ),
        "answers with yes of type bool, which is a decision; .* --output logits",
    ),
    "maps": (
        lambda: graph(ZIPPED, [maps()], domains={"ai.onnx.ml": 3}),
        "made by ZipMap 'maps'; choose its input as output: --output chances",
    ),
    "sequence": (
        lambda: graph([*BODY, node("SequenceConstruct", ["logits"], ["sequence"])], [sequence()]),
        "made by SequenceConstruct 'sequence'; choose its input as output: --output logits",
    ),
    "random": (
        lambda: graph(
            [*BODY, node("RandomNormalLike", ["logits"], ["r"]), node("Add", ["logits", "r"], ["o"])],
            [value("o", FLOAT, ["N", 2])],
        ),
        "draws random numbers .RandomNormalLike 'r'.; export it in evaluation mode",
    ),
    "no image": (
        lambda: graph(
            [*BODY, node("Identity", ["k"], ["o"])],
            [value("o", FLOAT, [1, 2])],
            constants=[constant("k", np.ones((1, 2), np.float32))],
        ),
        "the output o of .* does not depend on its input; choose another one with --output",
    ),
    "not a number": (
        lambda: graph(
            [*BODY, node("Div", ["logits", "zero"], ["o1"]), node("Sub", ["o1", "o1"], ["o"])],
            [value("o", FLOAT, ["N", 2])],
            constants=[constant("zero", np.float32(0))],
        ),
        "answers with NaN or infinity for 8 of 8 images; check --scale-pixels",
    ),
    "from the future": (lambda: graph(BODY, opset=99), r"has opset 99, and the installed onnx knows opsets up to \d+"),
    "from the past": (
        lambda: graph(BODY, opset=6),
        r"cannot be converted from opset 6 to 21 \(Gemm in opset version 6",
    ),
    "enormous": (
        lambda: graph(BODY, inputs=[value("images", FLOAT, ["N", 3, 90000, 90000])]),
        "has the size.0 90000, but input should be less than or equal to 4096",
    ),
    "twelve channels": (
        lambda: graph(BODY, inputs=[value("images", FLOAT, ["N", 12, SIZE, SIZE])]),
        r"images of 12 channels; 3 \(RGB, BGR\) or 1 \(gray\) are needed",
    ),
    "map of features": (
        lambda: graph(BODY[:1], [value("c", FLOAT, ["N", 8, 30, 30])]),
        r"answers with \[8, 30, 30\] per image, which is not one score per class",
    ),
    "optimized already": (
        lambda: graph(
            [node("FusedConv", ["images", "w"], ["c"], domain="com.microsoft", activation="Relu"), *BODY[1:]],
            domains={"com.microsoft": 1},
        ),
        r"was optimized for ONNX Runtime \(FusedConv 'c' is an operator of its own\); give the file from before that",
    ),
    "double precision": (
        lambda: graph(
            [node("Conv", ["images", "v"], ["c"]), node("Flatten", ["c"], ["o"])],
            [value("o", TensorProto.DOUBLE, ["N", 2])],
            inputs=[value("images", TensorProto.DOUBLE, ["N", 3, SIZE, SIZE])],
            constants=[constant("v", np.ones((2, 3, SIZE, SIZE)))],
        ),
        r"cannot be run by ONNX Runtime \(.*NOT_IMPLEMENTED.*\); export it in float32",
    ),
    "bfloat16": (
        lambda: graph(
            [
                node("Cast", ["images"], ["b"], to=TensorProto.BFLOAT16),
                node("ReduceMean", ["b"], ["m"], axes=[3], keepdims=0),
                node("Exp", ["m"], ["e"]),
                node("Cast", ["e"], ["f32"], to=FLOAT),
                node("ReduceMean", ["f32"], ["o"], axes=[2], keepdims=0),
            ],
            [value("o", FLOAT, ["N", 3])],
        ),
        r"computes in bfloat16, which ONNX Runtime's CPU kernels do not; export it in float32",
    ),
    "no output": (lambda: graph(BODY, []), r"is not a valid ONNX model \(it has no output\)"),
    "training: batch": (
        lambda: graph(
            [*BODY, node("BatchNormalization", ["logits", *"stuv"], ["o", "om", "ov"], training_mode=1)],
            [value("o", FLOAT, ["N", 2])],
            constants=[constant(name, np.ones(2, np.float32)) for name in "stuv"],
        ),
        r"is in training mode \(BatchNormalization 'o'\).*; export it in evaluation mode",
    ),
    "training: dropout": (
        lambda: graph(
            [*BODY, node("Dropout", ["logits", "", "yes"], ["o"])],
            [value("o", FLOAT, ["N", 2])],
            constants=[constant("yes", np.array(True))],
        ),
        r"is in training mode \(Dropout 'o'\).*; export it in evaluation mode",
    ),
    "two inputs": (
        lambda: graph(
            [*BODY, node("Add", ["logits", "other"], ["o"])],
            [value("o", FLOAT, ["N", 2])],
            inputs=[IMAGES, value("other", FLOAT, ["N", 2])],
        ),
        r"has 2 inputs \(images, other\)",
    ),
}


def taken(model: ModelProto, folder: Path, **flags: Any) -> Adopted:
    path = folder / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    config = configure(onnx=path, mean="none", **flags)
    return adopt(read_source(path, config.model, config.preprocessing), PIXELS, Meaning(("no", "yes")), folder)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_classifier_of_images_is_refused(what: str, tmp_path: Path) -> None:
    make, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        taken(make(), tmp_path)


@pytest.mark.parametrize("output", ["chances", "logits"])
def test_the_output_that_a_refusal_names_is_taken(output: str, tmp_path: Path) -> None:
    made = taken(graph(ZIPPED, [maps()], domains={"ai.onnx.ml": 3}), tmp_path, output=output)
    assert made.facts["head"]
    assert made.facts["parity_max_abs"] < 1e-4


def test_the_branches_of_an_if_follow_renamed_values(tmp_path: Path) -> None:
    def branch(name: str, operator: str) -> Any:
        return helper.make_graph([node(operator, ["logits"], [name])], name, [], [value(name, FLOAT, None)])

    nodes = [
        node("ReduceMean", ["images"], ["mean"], keepdims=0),
        node("Greater", ["mean", "half"], ["bright"]),
        node("If", ["bright"], ["o"], then_branch=branch("a", "Identity"), else_branch=branch("b", "Neg")),
    ]
    half = constant("half", np.float32(PIXELS[0].mean() / 255))
    made = taken(graph([*BODY, *nodes], [value("o", FLOAT, ["N", 2])], constants=[half]), tmp_path)
    assert made.facts["batch"] == 1
    assert made.facts["parity_max_abs"] < 1e-4


def test_a_pointer_in_place_of_a_large_file_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    with pytest.raises(DataError, match=r"only a pointer of Git LFS .* `git lfs pull`"):
        read_source(path, configure(onnx=path).model, configure(mean="none").preprocessing)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x:0/ä b", "w"], ["c;1"]),
        node("GlobalAveragePool", ["c;1"], ["p"]),
        node("Flatten", ["p"], ["logits"]),
        node("Gemm", ["logits", "h"], ["out put\n"]),
    ]
    model = graph(nodes, [value("out put\n", FLOAT, ["N", 2])], inputs=[value("x:0/ä b", FLOAT, ["N", 3, SIZE, SIZE])])
    assert taken(model, tmp_path).facts["parity_max_abs"] < 1e-4
