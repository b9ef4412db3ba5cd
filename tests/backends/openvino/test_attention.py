"""Attention of a vision transformer: fused by OpenVINO with 8-bit queries and keys, in float on ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from fqbench.backends.openvino import placement
from fqbench.backends.openvino.placement import with_symmetric_levels
from onnx import TensorProto, helper

from fqbench import plugins
from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.plan import QuantizationPlan
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Scheme
from fqbench.machine import IntegerSums, this_machine
from fqbench.quant import graph
from fqbench.quant.activations import activations
from fqbench.storage import file_digest
from fqbench.testing.planned import write_artifact
from fqbench.testing.sums import exact
from fqbench.testing.tiny_model import calibration_set, onnxruntime_logits, pictures

DEPTH, HEADS, TOKENS, WIDTH = 2, 2, 17, 16
SCHEME = exact(Scheme(range_rule="minmax"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A small vision transformer as fqbench exports it: the keys' shape is computed from a shape."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("timm.models.vision_transformer", reason="timm is not installed")
    from fqbench.models import export

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    network = transformers.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=HEADS * WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=2
    ).eval()
    preprocessing = Preprocessing(size=32)
    export.export(network, pictures(2, seed=1), preprocessing, ["no", "yes"], folder)
    path = folder / export.MODEL
    return ExportedModel("vit", "vit", path, file_digest(path), ("no", "yes"), preprocessing)


def written(vit: ExportedModel, out: Path, backend: str = "openvino", scheme: Scheme = SCHEME) -> Artifact:
    out.mkdir()
    return write_artifact(plugins.backend(backend), vit, scheme, out, calibration_set())


def scores(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that multiply queries with keys."""
    readers = {name: node for node in model.graph.node for name in node.input}
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and (after := readers.get(node.output[0])) and after.op_type == "Softmax"
    ]


def test_the_cleaned_graph_turns_queries_keys_and_values_once_and_knows_the_shape_of_the_keys(
    vit: ExportedModel,
) -> None:
    cleaned = graph.cleaned(vit.path)
    turned = [node for node in cleaned.graph.node if node.op_type == "Transpose" and len(node.attribute[0].ints) == 5]
    assert len(turned) == DEPTH
    shapes = {one.name: one.shape for one in activations(cleaned).observed}
    products = scores(cleaned)
    assert len(products) == DEPTH
    for node in products:
        assert [shapes[name] for name in node.input] == [(HEADS, TOKENS, WIDTH), (HEADS, WIDTH, TOKENS)]


def test_queries_and_keys_are_signed_and_go_into_the_fused_kernel(vit: ExportedModel, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    artifact = written(vit, tmp_path / "ours")
    model = onnx.load(artifact.main_file)
    by_output = {node.output[0]: node for node in model.graph.node}
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in scores(model):
        for name in node.input:
            zero_point = tensors[by_output[name].input[2]]
            assert (zero_point.dtype, int(zero_point)) == (np.int8, 0)
    if this_machine().integer_sums is not IntegerSums.EXACT:
        pytest.skip("OpenVINO computes attention in float here: this CPU has no instructions for products of bytes")
    core = openvino.Core()
    read = core.read_model(artifact.main_file)
    read.reshape({read.input(0): [1, 3, 32, 32]})
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: Counter[tuple[str, str]] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: str(getattr(value, "value", value)) for key, value in node.get_rt_info().items()}
        fused = facts.get("originalLayersNames", "")
        if "Softmax" in fused:
            found["attention", ",".join(one.get_element_type().get_type_name() for one in node.inputs()[:2])] += 1
        if facts["layerType"] == "Transpose" and len(node.output(0).get_shape()) == 5:
            found["transpose", facts["runtimePrecision"]] += 1
    assert found == {("attention", "i8,i8"): DEPTH, ("transpose", "f32"): DEPTH}


def test_8_bit_scores_answer_about_as_closely_as_float_ones(
    vit: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    images = pictures(64, seed=31)
    expected = onnxruntime_logits(vit.path, images)
    backend, difference = plugins.backend("openvino"), {}
    difference["8 bits"] = backend.load(written(vit, tmp_path / "a"), threads=1, device="cpu").run(images) - expected
    chosen = {node.name for node in scores(graph.cleaned(vit.path))}
    every = placement.operators
    monkeypatch.setattr(placement, "operators", lambda graph: tuple(n for n in every(graph) if n not in chosen))
    difference["float"] = backend.load(written(vit, tmp_path / "b"), threads=1, device="cpu").run(images) - expected
    assert not np.array_equal(difference["8 bits"], difference["float"]), "the same graph twice"
    largest = {name: np.abs(values).max() for name, values in difference.items()}
    assert largest["8 bits"] <= 1.5 * largest["float"]
    assert largest["8 bits"] <= 0.1 * np.abs(expected).max()


def test_onnxruntime_computes_attention_in_float(vit: ExportedModel, tmp_path: Path) -> None:
    model = onnx.load(written(vit, tmp_path / "ort", "ort").main_file)
    by_output = {node.output[0]: node for node in model.graph.node}
    products = scores(model)
    assert len(products) == DEPTH
    for node in products:
        assert {by_output[name].op_type for name in node.input} == {"Mul"}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert not quantized & {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}


def test_only_factors_that_are_both_activations_and_nearly_symmetric_ranges_become_symmetric() -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["first"], "relu"),
        helper.make_node("Sigmoid", ["images"], ["second"], "sigmoid"),
        helper.make_node("MatMul", ["first", "second"], ["product"], "product"),
    ]
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, 4])]
    made = [helper.make_tensor_value_info("product", TensorProto.FLOAT, [1, 4, 4])]
    model = helper.make_model(helper.make_graph(nodes, "product", given, made))
    ranges = {"images": QParams.of(-1, 3, 8), "first": QParams.of(0, 3, 8), "second": QParams.of(0, 1, 8)}
    plan = QuantizationPlan(model, ranges, {}, (), calibration="images")
    changed, names = with_symmetric_levels(plan)
    assert names == {"second"}, "a first factor without negative levels has its zero point at 0 already"
    assert changed.activations["second"].zero_point == 128
    assert changed.activations["second"].high == pytest.approx(1, rel=1e-6)
    assert {**changed.activations, "second": ranges["second"]} == ranges
    below = replace(plan, activations={**ranges, "first": QParams.of(-2, 3, 8)})
    assert with_symmetric_levels(below)[1] == {"first", "second"}
    learned = replace(below, calibration=None)
    assert with_symmetric_levels(learned) == (learned, frozenset())
    nearly = replace(plan, activations={**ranges, "images": QParams.of(-2.4, 3, 8)})
    changed, names = with_symmetric_levels(nearly)
    assert names == {"images", "second"}
    assert changed.activations["images"].zero_point == 128
    assert changed.activations["images"].high == pytest.approx(3, rel=1e-2)
