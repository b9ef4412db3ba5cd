"""A user's own ONNX file: what is taken, what becomes of it, and how each thing that does not fit is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fqbench.config import Preprocessing, configure
from fqbench.data.images import normalize
from fqbench.errors import InputError
from fqbench.models.adopt import Adopted, Meaning, adopt, read_source
from fqbench.models.adopt.adopting import run
from fqbench.models.export import METADATA_CLASSES, METADATA_PREPROCESSING
from tests.conftest import write_classifier
from tests.models.adopt.network import MEAN, SIZE, STD, Written, pictures, reference, write

PIXELS, _ATTRIBUTES = pictures(60, seed=5)
STATED: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
CLASSES = ("no", "yes")


def adopted(path: Path, out: Path, classes: tuple[str, ...] = CLASSES, **flags: Any) -> Adopted:
    config = configure(onnx=path, **flags)
    source = read_source(path, config.model, config.preprocessing)
    pixels = PIXELS if source.geometry.size == (SIZE, SIZE) else drawn(*source.geometry.size)
    out.mkdir(exist_ok=True)
    return adopt(source, pixels, Meaning(tuple(classes), class_map=config.model.class_map), out)


def drawn(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, height, width, 3), dtype=np.uint8)


def answers(out: Path, preprocessing: Preprocessing, pixels: np.ndarray = PIXELS) -> np.ndarray:
    model = onnx.load(out / "model.onnx")
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    return run(model, normalize(pixels, preprocessing), free=not fixed)


def operators(out: Path) -> list[str]:
    return [node.op_type for node in onnx.load(out / "model.onnx").graph.node]


def edited(path: Path, how: Written, change: Any) -> Path:
    """Write the network, and change its graph."""
    model = onnx.load(write(path, how))
    change(model)
    onnx.save(model, path)
    return path


def test_preprocessing_and_classes_travel_inside_the_file(classifier: Path, tmp_path: Path) -> None:
    made = adopted(classifier, tmp_path / "out", **STATED)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    found = Preprocessing.model_validate_json(metadata[METADATA_PREPROCESSING])
    assert (found, json.loads(metadata[METADATA_CLASSES])) == (made.preprocessing, list(CLASSES))
    assert found.size == (32, 32)
    assert found.mean == pytest.approx(STATED["mean"])
    assert found.std == pytest.approx(STATED["std"])


def test_a_file_that_fqbench_wrote_needs_no_flags(classifier: Path, tmp_path: Path) -> None:
    made = adopted(classifier, tmp_path / "out", **STATED)
    again = adopted(tmp_path / "out" / "model.onnx", tmp_path / "again")
    assert again.preprocessing.mean == pytest.approx(made.preprocessing.mean)
    assert (
        np.abs(answers(tmp_path / "again", again.preprocessing) - answers(tmp_path / "out", made.preprocessing)).max()
        < 1e-6
    )


def test_every_node_has_a_name_and_every_activation_a_shape(tmp_path: Path) -> None:
    adopted(
        write(tmp_path / "a.onnx", Written(opset=9, layout="nhwc")), tmp_path / "out", **Written(layout="nhwc").flags
    )
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    known = {value.name for value in (*graph.value_info, *graph.output)}
    assert all(name in known for node in graph.node for name in node.output)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_other_types_of_input(tmp_path: Path, dtype: str, layout: str) -> None:
    how = Written(layout=layout, dtype=dtype, preprocessing="inside")
    made = adopted(write(tmp_path / "a.onnx", how), tmp_path / "out", **how.flags)
    logits = answers(tmp_path / "out", made.preprocessing)
    assert (logits.argmax(axis=1) == (reference(PIXELS)[:, 1] > 0)).all()
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < (5e-2 if dtype == "float16" else 1e-4)
    assert "Cast" not in operators(tmp_path / "out")


def test_whole_numbers_that_the_graph_works_on_are_rounded_and_cast(tmp_path: Path) -> None:
    def pooled_first(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Cast":
                node.input[0] = "larger"
        pool = helper.make_node("MaxPool", ["picture"], ["larger"], kernel_shape=[1, 1])
        model.graph.node.insert(0, pool)

    how = Written(dtype="uint8", preprocessing="inside")
    path = edited(tmp_path / "a.onnx", how, pooled_first)
    made = adopted(path, tmp_path / "out", **how.flags)
    assert operators(tmp_path / "out")[:3] == ["Round", "Cast", "MaxPool"]
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4


def test_weights_of_half_precision_become_float32(tmp_path: Path) -> None:
    def halved(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16

    path = edited(tmp_path / "half.onnx", Written(), halved)
    made = adopted(path, tmp_path / "out", **Written().flags)
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT64}
    assert 0 < made.facts["parity_max_abs"] < 2e-2
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 5e-2


def test_weights_that_are_inputs_and_constants_that_are_nodes(tmp_path: Path) -> None:
    def exposed(model: onnx.ModelProto) -> None:
        for tensor in list(model.graph.initializer):
            if tensor.name in {"stem", "bias"}:
                model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            elif tensor.name in {"head", "rest"}:
                model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
                model.graph.initializer.remove(tensor)
        model.ir_version = 3
        for tensor in model.graph.initializer:  # IR 3 has every constant as an input, too
            if tensor.name not in {value.name for value in model.graph.input}:
                model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    path = edited(tmp_path / "a.onnx", Written(opset=9), exposed)
    made = adopted(path, tmp_path / "out", **Written().flags)
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    model = onnx.load(write(tmp_path / "a.onnx", Written()))
    path = folder / "a.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    made = adopted(path, tmp_path / "out", **Written().flags)
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4
    (folder / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"the external data of .* cannot be read"):
        adopted(path, tmp_path / "out", **Written().flags)


def test_free_height_and_width_are_fixed_by_the_flag(tmp_path: Path) -> None:
    how = Written(side=None)
    path = write(tmp_path / "any.onnx", how)
    with pytest.raises(InputError, match="give --size"):
        adopted(path, tmp_path / "out", **how.flags | {"size": None})
    made = adopted(path, tmp_path / "out", **how.flags | {"size": "24x40"})
    assert made.preprocessing.size == (24, 40)
    shape = onnx.load(tmp_path / "out" / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim][1:] == [3, 24, 40]


@pytest.mark.parametrize("channels", ["gray"])
def test_one_channel(tmp_path: Path, channels: str) -> None:
    def grey(model: onnx.ModelProto) -> None:
        stem = next(tensor for tensor in model.graph.initializer if tensor.name == "stem")
        values = numpy_helper.to_array(stem).sum(axis=1, keepdims=True)
        stem.CopyFrom(numpy_helper.from_array(values, "stem"))
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1

    path = edited(tmp_path / "a.onnx", Written(), grey)
    flags = {"mean": (0.5,), "std": (0.25,)}
    with pytest.raises(InputError, match="images of one channel: add --channels gray"):
        adopted(path, tmp_path / "out", **flags)
    adopted(path, tmp_path / "out", channels=channels, **flags)
    assert operators(tmp_path / "out")[0] == "Conv"


def test_a_batch_that_cannot_be_free_is_run_image_by_image(tmp_path: Path) -> None:
    def transposed(model: onnx.ModelProto) -> None:
        """Put the batch behind the features and back, by constants that know it."""
        shape = numpy_helper.from_array(np.array([16, 1], np.int64), "column")
        back = numpy_helper.from_array(np.array([1, 16], np.int64), "row")
        model.graph.initializer.extend([shape, back])
        nodes = list(model.graph.node)
        position = next(i for i, node in enumerate(nodes) if "pooled.flat" in node.output) + 1
        nodes[position].input[0] = "turned"
        turned = [
            helper.make_node("Reshape", ["pooled.flat", "column"], ["standing"]),
            helper.make_node("Softsign", ["standing"], ["standing.kept"]),
            helper.make_node("Reshape", ["standing", "row"], ["turned"]),
        ]
        del model.graph.node[:]
        model.graph.node.extend([*nodes[:position], *turned, *nodes[position:]])

    how = Written(batch=1)
    path = edited(tmp_path / "a.onnx", how, transposed)
    made = adopted(path, tmp_path / "out", **how.flags)
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4
    assert made.facts["adoption"]["batch"].startswith("fixed to 1 in the file")


def test_the_batch_stays_fixed_where_images_touch_each_other(tmp_path: Path) -> None:
    def first_alone(model: onnx.ModelProto) -> None:
        """Take the first row of the features, as an exporter's squeeze does: a batch of two gives one answer."""
        model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "only"))
        nodes = list(model.graph.node)
        position = next(i for i, node in enumerate(nodes) if "pooled.flat" in node.output) + 1
        nodes[position].input[0] = "chosen"
        gather = helper.make_node("Gather", ["pooled.flat", "only"], ["chosen"], axis=0)
        del model.graph.node[:]
        model.graph.node.extend([*nodes[:position], gather, *nodes[position:]])

    how = Written(batch=1)
    path = edited(tmp_path / "a.onnx", how, first_alone)
    made = adopted(path, tmp_path / "out", **how.flags)
    assert made.facts["adoption"]["batch"] == "fixed to 1 in the file, one image at a time here"
    assert made.facts["batch"] == 1
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4


def test_a_class_token_for_every_image_of_a_fixed_batch(tmp_path: Path) -> None:
    """As in a vision transformer that was exported with a batch of 7."""
    rng = np.random.default_rng(0)
    batch, channels = 7, 6
    weights = {
        "patch": rng.normal(0, 0.2, (channels, 3, 8, 8)).astype(np.float32),
        "token": np.repeat(rng.normal(0, 1, (1, 1, channels)).astype(np.float32), batch, axis=0),
        "place": np.repeat(rng.normal(0, 1, (1, 17, channels)).astype(np.float32), batch, axis=0),
        "tokens": np.array([batch, channels, 16], np.int64),
        "out": rng.normal(0, 1, (channels, 2)).astype(np.float32),
        "index": np.array(0, np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "patch"], ["a"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["a", "tokens"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["token", "c"], ["d"], axis=1),
        helper.make_node("Add", ["d", "place"], ["e"]),
        helper.make_node("Transpose", ["e"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["e", "t"], ["f"]),
        helper.make_node("Softmax", ["f"], ["g"], axis=-1),
        helper.make_node("MatMul", ["g", "e"], ["h"]),
        helper.make_node("Gather", ["h", "index"], ["i"], axis=1),
        helper.make_node("MatMul", ["i", "out"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "vit",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    path = tmp_path / "vit.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    made = adopted(path, tmp_path / "out", **STATED)
    assert made.facts["adoption"]["batch"] == "fixed to 7 in the file, free here"
    assert made.facts["parity_max_abs"] < 1e-4


def test_one_output_of_several_and_one_inside_the_graph(tmp_path: Path) -> None:
    def more(model: onnx.ModelProto) -> None:
        model.graph.output.append(helper.make_tensor_value_info("pooled.flat", TensorProto.FLOAT, ["N", 16]))

    path = edited(tmp_path / "a.onnx", Written(head="softmax"), more)
    named = onnx.load(path).graph.output[0].name
    inner = onnx.load(path).graph.node[-1].input[0]
    with pytest.raises(InputError, match=rf"has 2 outputs \({named} .*pooled.flat.*\); choose .* --output NAME"):
        adopted(path, tmp_path / "out", **Written().flags)
    for output in (named, inner):
        made = adopted(path, tmp_path / "out", output=output, **Written().flags)
        logits = answers(tmp_path / "out", made.preprocessing)
        assert np.abs(logits[:, 1] - logits[:, 0] - reference(PIXELS)[:, 1]).max() < 1e-4
    with pytest.raises(InputError, match=r"has no output 'pooled.flad' for --output: did you mean 'pooled.flat'"):
        adopted(path, tmp_path / "out", output="pooled.flad", **Written().flags)


def test_more_classes_than_the_data_have(tmp_path: Path) -> None:
    how = Written(head="attribute-logits")
    path = write(tmp_path / "a.onnx", how)
    with pytest.raises(InputError, match=r"has 4 outputs, but the data have 2 classes .*add --class-map FILE"):
        adopted(path, tmp_path / "out", **how.flags)
    mapping = tmp_path / "map.yaml"
    mapping.write_text("'yes': [3, 1]\n'no': 0\n")
    made = adopted(path, tmp_path / "out", class_map=mapping, **how.flags)
    all_four = reference(PIXELS)
    expected = np.stack([all_four[:, 0], np.logaddexp(all_four[:, 1], all_four[:, 3])], axis=1)
    assert np.abs(answers(tmp_path / "out", made.preprocessing) - expected).max() < 1e-4
    mapping.write_text("'yes': 3\n'no': 0\n")
    made = adopted(path, tmp_path / "out", class_map=mapping, **how.flags)
    assert np.abs(answers(tmp_path / "out", made.preprocessing) - all_four[:, [0, 3]]).max() < 1e-4
    assert operators(tmp_path / "out")[-1] == "Gemm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'yes': 3\n", "does not map the class 'no'"),
        ("'yes': 3\n'no': 3\n", "one is used twice or missing"),
        ("'yes': 4\n'no': 3\n", "names class 4; the model's classes are 0 to 3"),
        ("'yes': cat\n'no': 3\n", "names the class 'cat', and the model's names are not known; give its number"),
        ("'yea': 1\n'no': 3\n", "maps 'yea', which is not a class of the data: did you mean 'yes'"),
        ("- 1\n", "must map each class of the data"),
    ],
)
def test_a_class_map_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    how = Written(head="attribute-logits")
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        adopted(write(tmp_path / "a.onnx", how), tmp_path / "out", class_map=tmp_path / "map.yaml", **how.flags)


def test_names_beside_the_model_put_its_classes_in_order(tmp_path: Path) -> None:
    how = Written()
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "Yes", "1": "No"}}))
    made = adopted(write(tmp_path / "a.onnx", how), tmp_path / "out", **how.flags)
    logits = answers(tmp_path / "out", made.preprocessing)
    assert (logits.argmax(axis=1) == (reference(PIXELS)[:, 1] <= 0)).all()


def test_preprocessing_that_is_written_down(tmp_path: Path) -> None:
    hugging_face = {
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 3,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(hugging_face))
    path = write(tmp_path / "a.onnx", Written())
    made = adopted(path, tmp_path / "out")
    assert (made.preprocessing.fit, made.preprocessing.interpolation) == ("squash", "bicubic")
    assert made.preprocessing.mean == pytest.approx(MEAN)
    assert made.facts["adoption"]["stated_in"] == [str(tmp_path / "preprocessor_config.json")]
    (tmp_path / "preprocessor_config.json").unlink()
    timm = {"pretrained_cfg": {"input_size": [3, SIZE, SIZE], "mean": MEAN, "std": STD, "crop_pct": 0.9}}
    (tmp_path / "config.json").write_text(json.dumps(timm))
    made = adopted(path, tmp_path / "out")
    assert (made.preprocessing.crop, made.preprocessing.std) == (0.9, pytest.approx(STD))


@pytest.mark.parametrize(
    ("rescaling", "expected"),
    [
        ({"rescale_factor": 1 / 255}, (0.5, 0.25)),
        # Values from 0 to 2, and from -1 to 1: taken off 0.5, divided by 0.25, in units of value / 255.
        ({"rescale_factor": 1 / 127.5}, (0.25, 0.125)),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, (0.75, 0.125)),
        ({"rescale_factor": 1 / 255, "rescale_offset": True}, (1.5, 0.25)),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, (0.5, 0.5)),
    ],
)
def test_another_factor_of_the_pixels_is_another_mean_and_std(
    tmp_path: Path, rescaling: dict[str, Any], expected: tuple[float, float]
) -> None:
    said = {"do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3} | rescaling
    (tmp_path / "preprocessor_config.json").write_text("\ufeff" + json.dumps(said), encoding="utf-8")
    made = adopted(write(tmp_path / "a.onnx", Written()), tmp_path / "out")
    assert made.preprocessing.mean == pytest.approx([expected[0]] * 3)
    assert made.preprocessing.std == pytest.approx([expected[1]] * 3)


def test_one_number_stands_for_all_channels(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.5, "image_std": [0.25]}))
    made = adopted(write(tmp_path / "a.onnx", Written()), tmp_path / "out")
    assert (made.preprocessing.mean, made.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("preprocessor_config.json", {"size": {"height": "9"}, "crop_size": {"height": "9"}, "do_center_crop": True}),
        ("preprocessor_config.json", {"size": {"shortest_edge": 0}, "crop_size": 8, "do_center_crop": True}),
        ("preprocessor_config.json", {"rescale_factor": "1/255"}),
        ("preprocessor_config.json", {"resample": [3]}),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}),
        ("preprocessor_config.json", {"image_mean": "imagenet", "image_std": [0.5]}),
        ("config.json", {"pretrained_cfg": {"input_size": 224}}),
        ("config.json", {"pretrained_cfg": {"crop_pct": "large"}}),
    ],
)  # fmt: skip
def test_a_damaged_file_beside_the_model_is_named(tmp_path: Path, name: str, said: dict[str, Any]) -> None:
    (tmp_path / name).write_text(json.dumps(said))
    with pytest.raises(InputError, match=rf"{name} next to the model has a value of another kind than expected"):
        adopted(write(tmp_path / "a.onnx", Written()), tmp_path / "out", **Written().flags)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"mean": "large"}', '{"std": [1, 2]}', "7"])
def test_damaged_metadata_of_fqbench_are_named(tmp_path: Path, text: str) -> None:
    def noted(model: onnx.ModelProto) -> None:
        model.metadata_props.add(key=METADATA_PREPROCESSING, value=text)

    path = edited(tmp_path / "a.onnx", Written(), noted)
    with pytest.raises(InputError, match=r"the metadata fqbench.preprocessing of .*a\.onnx are damaged"):
        adopted(path, tmp_path / "out", mean="none")


def test_a_flag_counts_more_than_what_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}))
    made = adopted(write(tmp_path / "a.onnx", Written()), tmp_path / "out", **Written().flags)
    assert made.preprocessing.mean == pytest.approx(MEAN)


def test_channels_in_windows_metadata(tmp_path: Path) -> None:
    def noted(model: onnx.ModelProto) -> None:
        model.metadata_props.add(key="Image.BitmapPixelFormat", value="Bgr8")
        model.metadata_props.add(key="Image.NominalPixelRange", value="NominalRange_0_255")

    how = Written(preprocessing="bgr255")
    path = edited(tmp_path / "a.onnx", how, noted)
    flags = {key: how.flags[key] for key in ("mean", "std")}
    made = adopted(path, tmp_path / "out", **flags)
    assert (answers(tmp_path / "out", made.preprocessing).argmax(axis=1) == (reference(PIXELS)[:, 1] > 0)).all()


@pytest.mark.parametrize(
    ("model", "flags", "classes", "message"),
    [
        ({}, {}, CLASSES, "give --mean --std"),
        ({}, STATED | {"size": 64}, CLASSES, "--size 64 contradicts the input of .* 32x32"),
        ({}, STATED, ("a", "b", "c"), "has 2 outputs, but the data have 3 classes"),
        ({"classes": 3}, STATED, CLASSES, "has 3 outputs, but the data have 2 classes"),
        ({"classes": 1}, STATED, ("a", "b", "c"), "one output, which is for two classes"),
        ({}, STATED | {"layout": "nhwc"}, CLASSES, r"takes \(N, 3, 32, 32\): add --layout nchw"),
        ({}, STATED | {"channels": "gray"}, CLASSES, "images of three channels: leave --channels gray out"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, model: dict, flags: dict, classes: tuple[str, ...], message: str
) -> None:
    path = write_classifier(tmp_path / "other.onnx", **model)
    with pytest.raises(InputError, match=message):
        adopted(path, tmp_path / "out", classes, **flags)


def test_another_layout_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", Written(layout="nhwc"))
    with pytest.raises(InputError, match=r"takes \(N, 32, 32, 3\): add --layout nhwc"):
        adopted(path, tmp_path / "out", **STATED)


def test_rows_of_numbers_are_not_images(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 784])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 784])],
    )
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "rows.onnx")
    with pytest.raises(InputError, match=r"takes \(N, 784\); images of shape"):
        adopted(tmp_path / "rows.onnx", tmp_path / "out", **STATED)


def test_a_feature_map_is_not_a_row_of_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", Written())
    inner = next(node.output[0] for node in onnx.load(path).graph.node if node.op_type == "Relu")
    with pytest.raises(InputError, match="which is not one score per class; choose another output with --output"):
        adopted(path, tmp_path / "out", output=inner, **Written().flags)


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(write(tmp_path / "a.onnx", Written()), tmp_path / "q.onnx")
    with pytest.raises(InputError, match=r"is quantized already \(\w+ '.*'\); give the FP32 model"):
        adopted(tmp_path / "q.onnx", tmp_path / "out", **Written().flags)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    def strange(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type, node.domain = "Whirl", "com.example"
        model.opset_import.add(domain="com.example", version=1)

    path = edited(tmp_path / "a.onnx", Written(), strange)
    with pytest.raises(InputError, match="Whirl"):
        adopted(path, tmp_path / "out", **Written().flags)


def test_no_onnx_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="no ONNX file"):
        adopted(path, tmp_path / "out", **STATED)
    for content in (np.random.default_rng(0).bytes(100), b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a valid ONNX model"):
            adopted(path, tmp_path / "out", **STATED)


def headed(path: Path, *nodes: onnx.NodeProto, constants: Any = (), output: str = "answer") -> Path:
    """Write the network with other operators after its two logits."""
    model = onnx.load(write(path, Written()))
    last = model.graph.output[0].name
    for node in nodes:
        node.input[:] = [last if name == "logits" else name for name in node.input]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(values), name) for name, values in constants)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    onnx.save(model, path)
    return path


ONE = [("one", np.float32(1)), ("i", np.array([1])), ("end", np.array([2])), ("signs", np.float32([[-1], [1]]))]
SPELT = (
    helper.make_node("MatMul", ["logits", "signs"], ["z"]),
    helper.make_node("Neg", ["z"], ["minus"]),
    helper.make_node("Exp", ["minus"], ["e"]),
    helper.make_node("Add", ["e", "one"], ["below"]),
    helper.make_node("Div", ["one", "below"], ["answer"]),
)
CHANCES = helper.make_node("Softmax", ["logits"], ["chances"], axis=1)
PROBABILITIES = {
    "spelt with other operators": SPELT,
    "a slice of a softmax": (CHANCES, helper.make_node("Slice", ["chances", "i", "end", "i"], ["answer"])),
    "gathered from a softmax": (CHANCES, helper.make_node("Gather", ["chances", "i"], ["answer"], axis=1)),
}


@pytest.mark.parametrize("what", PROBABILITIES)
def test_one_probability_is_no_logit(what: str, tmp_path: Path) -> None:
    """Taken for a logit, a probability is never below 0: every image would be of the second class."""
    path = headed(tmp_path / "a.onnx", *PROBABILITIES[what], constants=ONE)
    made = adopted(path, tmp_path / "out", mean=MEAN, std=STD)
    assert "probabilities, turned into logits" in made.facts["adoption"]["head"]
    logits = answers(tmp_path / "out", made.preprocessing)
    expected = reference(PIXELS)[:, 1] > 0
    assert 0.2 < expected.mean() < 0.8
    assert (logits.argmax(axis=1) == expected).all()


@pytest.mark.parametrize("scale", [0, 1])
def test_one_answer_for_all_images_is_told(scale: int, tmp_path: Path) -> None:
    scaled = helper.make_node("Mul", ["logits", "multiplier"], ["scaled"])
    nodes = (scaled, helper.make_node("Add", ["scaled", "one"], ["answer"]))
    path = headed(tmp_path / "a.onnx", *nodes, constants=[("multiplier", np.float32(scale)), *ONE])
    made = adopted(path, tmp_path / "out", mean=MEAN, std=STD)
    assert made.constant == (scale == 0)
    assert any("all of these images have the same answer" in line for line in made.summary) == (scale == 0)


FACTOR = [("hundred", np.float32(100)), ("hundredth", np.float32([0.01])), ("half", np.float32(0.5)), *ONE]
SOFTMAX = helper.make_node("Softmax", ["logits"], ["p"], axis=1)
SCALED = {
    "percent": ((SOFTMAX, helper.make_node("Mul", ["hundred", "p"], ["answer"])), "in percent: softmax"),
    "divided": ((SOFTMAX, helper.make_node("Div", ["p", "hundredth"], ["answer"])), "in percent: softmax"),
    "another factor": ((SOFTMAX, helper.make_node("Mul", ["p", "half"], ["answer"])), r"times 0.5: softmax"),
    "an operator between": (
        (SOFTMAX, helper.make_node("Relu", ["p"], ["q"]), helper.make_node("Mul", ["q", "hundred"], ["answer"])),
        "in percent: probabilities, turned into logarithms",
    ),
    "one of two": (
        (
            SOFTMAX,
            helper.make_node("Gather", ["p", "i"], ["q"], axis=1),
            helper.make_node("Mul", ["q", "hundred"], ["answer"]),
        ),
        "one number for two classes .in percent: probabilities, turned into logits",
    ),
    "one sigmoid": (
        (
            helper.make_node("MatMul", ["logits", "signs"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["q"]),
            helper.make_node("Mul", ["q", "hundred"], ["answer"]),
        ),
        "one number for two classes .in percent: sigmoid",
    ),
    "logarithm of a softmax": ((SOFTMAX, helper.make_node("Log", ["p"], ["answer"])), "log-softmax in the graph"),
}


@pytest.mark.parametrize("what", SCALED)
def test_probabilities_times_a_number_stand_for_the_same_logits(what: str, tmp_path: Path) -> None:
    nodes, found = SCALED[what]
    nodes = tuple(onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes)
    path = headed(tmp_path / "a.onnx", *nodes, constants=FACTOR)
    made = adopted(path, tmp_path / "out", mean=MEAN, std=STD)
    assert re.search(found, made.facts["adoption"]["head"])
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.allclose(logits[:, 1] - logits[:, 0], reference(PIXELS)[:, 1], atol=1e-2)


def test_logits_times_a_number_stay_logits(tmp_path: Path) -> None:
    path = headed(tmp_path / "a.onnx", helper.make_node("Mul", ["logits", "hundred"], ["answer"]), constants=FACTOR)
    made = adopted(path, tmp_path / "out", mean=MEAN, std=STD)
    assert made.facts["adoption"]["head"].startswith("2 classes (logits)")
    logits = answers(tmp_path / "out", made.preprocessing)
    assert np.allclose(logits[:, 1] - logits[:, 0], reference(PIXELS)[:, 1] * 100, rtol=1e-3, atol=1e-2)


def test_few_images_and_no_operator_that_says_so_leave_a_logit_a_logit(tmp_path: Path) -> None:
    path = headed(tmp_path / "a.onnx", *SPELT, constants=ONE)
    config = configure(onnx=path, mean=MEAN, std=STD)
    made = adopt(read_source(path, config.model, config.preprocessing), PIXELS[:15], Meaning(CLASSES), tmp_path)
    assert "one number for two classes (logits)" in made.facts["adoption"]["head"]


def test_the_logarithm_of_one_probability_is_refused(tmp_path: Path) -> None:
    chosen = helper.make_node("Slice", ["logarithms", "i", "end", "i"], ["answer"])
    path = headed(
        tmp_path / "a.onnx", helper.make_node("LogSoftmax", ["logits"], ["logarithms"], axis=1), chosen, constants=ONE
    )
    with pytest.raises(InputError, match=r"logarithm of one probability.*with --output NAME"):
        adopted(path, tmp_path / "out", mean=MEAN, std=STD)
    sigmoid = (
        helper.make_node("MatMul", ["logits", "signs"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["q"]),
        helper.make_node("Log", ["q"], ["answer"]),
    )
    with pytest.raises(InputError, match=r"logarithm of one probability.*with --output NAME"):
        adopted(headed(tmp_path / "b.onnx", *sigmoid, constants=ONE), tmp_path / "out", mean=MEAN, std=STD)
    made = adopted(path, tmp_path / "out", mean=MEAN, std=STD, output="logarithms")
    assert "2 classes" in made.facts["adoption"]["head"]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 2)])
def test_the_bias_of_a_gemm_has_one_number_per_output(shape: tuple[int, ...], tmp_path: Path) -> None:
    def flat(model: onnx.ModelProto) -> None:
        node = model.graph.node[-1]
        assert node.op_type == "Gemm"
        model.graph.initializer.append(numpy_helper.from_array(np.full(shape, 0.25, np.float32), "scalar"))
        node.input[2] = "scalar"

    adopted(edited(tmp_path / "a.onnx", Written(), flat), tmp_path / "out", **Written().flags)
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert found[graph.node[-1].input[2]].tolist() == [0.25, 0.25]
