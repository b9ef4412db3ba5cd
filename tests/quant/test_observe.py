"""The observer: exact where it says so, the same for every batch size, resumed after SIGKILL, and loud about NaN."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import IntegerFormat
from fqbench.contracts.scheme import Scheme
from fqbench.errors import DataError, InputError
from fqbench.quant import graph
from fqbench.quant.activations import Activation, activations
from fqbench.quant.observe import STATE, observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import ranges_of, tensor_ranges
from fqbench.quant.record import ARRAYS, CalibrationRecord, open_record
from fqbench.quant.rules import Rule
from fqbench.reference_executor import reference_session
from fqbench.testing.tiny_model import Pictures, calibration_set, pictures, tiny_model


@pytest.fixture
def model(tmp_path: Path) -> ExportedModel:
    folder = tmp_path / "model"
    folder.mkdir()
    return tiny_model(folder)


def activations_of(model: ExportedModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """All activations of the clean graph, by onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    clean = graph.cleaned(model.path)
    names = [activation.name for activation in activations(clean).observed]
    clean.graph.output.extend([onnx.ValueInfoProto(name=name) for name in names if name not in {"images", "logits"}])
    evaluator = ReferenceEvaluator(clean)
    values = evaluator.run(None, {"images": images})
    return {"images": images} | dict(zip(evaluator.output_names, values, strict=True))


def test_everything_is_seen_at_stride_one(model: ExportedModel) -> None:
    calibration = calibration_set(12)
    record = observe(model, calibration, sample=0)
    assert record.group_counts == {"dark": 9, "light": 3}
    images = calibration.images.batch(calibration.rows)
    light = (calibration.frame["group"] == "light").to_numpy()
    for tensor, values in activations_of(model, images).items():
        row = record.names.index(tensor)
        for group, mine in (("dark", ~light), ("light", light)):
            column = record.groups.index(group)
            part = values[mine]
            assert record.high[row, column] == pytest.approx(part.max(), rel=1e-5)
            assert record.low[row, column] == pytest.approx(min(part.min(), 0 if part.min() >= 0 else np.inf), rel=1e-5)
            assert record.counts[row, column].sum() + record.zeros[row, column] == part.size
            edges = record.edges[row]
            expected = np.histogram(part[part != 0], bins=edges)[0]
            assert np.abs(np.cumsum(expected) - np.cumsum(record.counts[row, column])).max() <= 2, tensor
    relu1 = activations_of(model, images)["relu1"]
    np.testing.assert_allclose(
        record.channel_means("relu1", np.ones(2)), relu1.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-5
    )


@pytest.mark.parametrize("sample", [0, 256])
def test_batch_size_and_threads_do_not_matter(model: ExportedModel, sample: int) -> None:
    calibration = calibration_set(37)
    first = observe(model, calibration, batch_size=1, threads=1, sample=sample)
    for batch_size, threads in ((8, 1), (32, 2)):
        other = observe(model, calibration, batch_size=batch_size, threads=threads, sample=sample)
        for rule in ("minmax", "mean_minmax", "percentile=99.9", "entropy", "mse"):
            one, two = (ranges_of(r, Rule.parse(rule), Policy(), IntegerFormat()) for r in (first, other))
            np.testing.assert_allclose(one.low, two.low, rtol=1e-5, err_msg=rule)
            np.testing.assert_allclose(one.high, two.high, rtol=1e-5, err_msg=rule)


def test_minmax_equals_onnxruntimes_calibrator(model: ExportedModel, tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    calibration = calibration_set(20)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = calibration.batches(1)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    clean = graph.clean(model.path, tmp_path / "clean.onnx")
    calibrator = create_calibrator(clean, [], tmp_path / "augmented.onnx", CalibrationMethod.MinMax)
    calibrator.collect_data(Reader())
    ours = tensor_ranges(model, Scheme(), calibration).by_name
    theirs = calibrator.compute_data()
    fused = {"conv1", "conv2"}  # what only a Relu reads takes the Relu's range, as their quantizer does in the end
    assert set(ours) >= set(theirs.keys())
    for name in set(theirs.keys()) - fused:
        expected = [float(np.squeeze(end)) for end in theirs[name].range_value]
        np.testing.assert_allclose(ours[name], [min(expected[0], 0), expected[1]], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "lattice"),
    [((3, 9, 11), (5, 4)), ((5, 7, 7), (1, 1)), ((16, 9, 11), (5, 4)), ((24, 8, 12), (4, 6)), ((17, 1, 5), (1, 3))],
)
def test_extremes_of_sets_are_exact_in_and_out_of_the_blocked_layout(
    shape: tuple[int, int, int], lattice: tuple[int, int]
) -> None:
    """Behind a convolution, so that the runtime stores the map in blocks where it can."""
    channels = shape[0]
    observed = (Activation("map", shape, False, None, None, lattice=lattice),)
    weights = helper.make_tensor("w", 1, [channels, channels, 1, 1], np.eye(channels, dtype=np.float32).ravel())
    convolution = helper.make_node("Conv", ["images", "w"], ["map"], "convolution")
    ends = [helper.make_tensor_value_info(name, 1, ["N", *shape]) for name in ("images", "map")]
    body = helper.make_graph([convolution], "sets", ends[:1], ends[1:], [weights])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    names = graph.augment(made, observed)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    values, most, least = reference_session(made.SerializeToString()).run(
        ["map", *names.maxima, *names.negative_minima], {"images": images}
    )
    sets = observed[0].set_of_each()
    for number in range(observed[0].sets):
        of_set = values[:, sets == number]
        np.testing.assert_array_equal(most[:, number], of_set.max(axis=1))
        np.testing.assert_array_equal(-least[:, number], of_set.min(axis=1))


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_sum_beside_an_observed_convolution_keeps_its_values(channels: int, swapped: bool) -> None:
    generator = np.random.default_rng(0)
    shape = (channels, 9, 7)
    weights = numpy_helper.from_array(generator.normal(size=(channels, channels, 3, 3)).astype(np.float32), "w")
    terms = ["images", "conv"] if swapped else ["conv", "images"]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", terms, ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["relu"], "relu"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["N", *shape]) for name in ("images", "relu", "conv")]
    body = helper.make_graph(nodes, "residual", ends[:1], ends[1:], [weights])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    images = generator.normal(size=(3, *shape)).astype(np.float32)
    relu, convolved = reference_session(made.SerializeToString()).run(["relu", "conv"], {"images": images})
    observed = tuple(Activation(name, shape, name == "relu", None, None) for name in ("conv", "relu"))
    names = graph.augment(made, observed)
    outputs = ["relu", "conv", *names.sample]
    found = reference_session(made.SerializeToString()).run(outputs, {"images": images})
    for expected, value in zip([relu, convolved, convolved, relu], found, strict=True):
        np.testing.assert_array_equal(value.ravel(), expected.ravel())
    assert sum(node.op_type == "Conv" for node in made.graph.node) == (3 if channels == 16 else 1)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from fqbench.quant.observe import observe
    from fqbench.testing.tiny_model import Pictures, calibration_set, pictures, tiny_model

    class Deadly(Pictures):
        def batch(self, rows):
            if rows.max() >= 40:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(rows)

    folder = Path(sys.argv[1])
    observe(tiny_model(folder / "model"), calibration_set(64, images=Deadly(pictures(64, 1))),
            batch_size=4, scratch=folder / "scratch", keep_every=0)
"""


def test_it_goes_on_after_sigkill(model: ExportedModel, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (scratch / STATE).is_file()

    class Counting(Pictures):
        seen = 0

        def batch(self, rows: np.ndarray) -> np.ndarray:
            Counting.seen += len(rows)
            return super().batch(rows)

    resumed = observe(model, calibration_set(64, images=Counting(pictures(64, 1))), scratch=scratch)
    assert 0 < Counting.seen < 64, "nothing of what the killed process did was used"
    whole = observe(model, calibration_set(64))
    for name, array in whole.arrays.items():
        np.testing.assert_allclose(resumed.arrays[name], array, rtol=1e-9, err_msg=name)


def test_progress_of_another_observation_is_not_taken_up(model: ExportedModel, tmp_path: Path) -> None:
    observe(model, calibration_set(8, seed=1), scratch=tmp_path, keep_every=0)
    other = replace(calibration_set(8, seed=2), sampler="other")
    other.frame["sample_id"] = [f"other-{number}" for number in range(8)]
    resumed, whole = observe(model, other, scratch=tmp_path), observe(model, other)
    np.testing.assert_array_equal(resumed.counts, whole.counts)


def test_damaged_progress_is_begun_anew(model: ExportedModel, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"PK\x03\x04 cut short")
    record = observe(model, calibration_set(8), scratch=tmp_path)
    assert record.images.sum() == 8


def test_a_record_is_saved_whole_and_the_same(model: ExportedModel, tmp_path: Path) -> None:
    record = observe(model, calibration_set(8))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        record.save(folder)
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()
    read = open_record(folders[0])
    assert (read.groups, read.observed, dict(read.aliases)) == (record.groups, record.observed, dict(record.aliases))
    np.testing.assert_array_equal(read.counts, record.counts)


def test_a_record_of_something_else_is_refused(model: ExportedModel) -> None:
    calibration = calibration_set(8)
    record = observe(model, calibration)
    other_model = replace(model, digest="f" * 64)
    with pytest.raises(InputError, match="does not belong to this model tiny"):
        tensor_ranges(other_model, Scheme(), replace(calibration, record=record))
    with pytest.raises(InputError, match="does not belong to this list of images"):
        tensor_ranges(model, Scheme(), replace(calibration_set(9), record=record))


def test_a_damaged_record_is_named(model: ExportedModel, tmp_path: Path) -> None:
    observe(model, calibration_set(8)).save(tmp_path)
    (tmp_path / ARRAYS).write_bytes((tmp_path / ARRAYS).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"the calibration record .* is damaged"):
        open_record(tmp_path)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_what_is_not_finite_is_named_with_its_image(model: ExportedModel, value: float, what: str) -> None:
    images = pictures(12, seed=1)
    images[7, 1, 3, 4] = value
    with pytest.raises(DataError, match=f"activation 'images' is {what} for the image '0007'"):
        observe(model, calibration_set(12, images=Pictures(images)))


def logarithm(folder: Path) -> ExportedModel:
    """A model whose Log is NaN where the mean of a picture's channels is negative."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"], "mean"),
        helper.make_node("Log", ["mean"], ["log"], "log"),
        helper.make_node("Relu", ["log"], ["relu"], "relu"),
        helper.make_node("Flatten", ["relu"], ["logits"], "flatten"),
    ]
    value = helper.make_tensor_value_info
    opset = [helper.make_opsetid("", 21)]
    body = helper.make_graph(nodes, "log", [value("images", 1, ["N", 3, 8, 8])], [value("logits", 1, ["N", 3])])
    onnx.save(helper.make_model(body, opset_imports=opset, ir_version=10), folder / "log.onnx")
    return ExportedModel("log", "log", folder / "log.onnx", "a" * 64, ("a", "b", "c"), Preprocessing(size=8))


def test_nan_inside_the_graph_is_found(tmp_path: Path) -> None:
    images = np.ones((6, 3, 8, 8), dtype=np.float32)
    images[4] = -1
    with pytest.raises(DataError, match="activation 'log' is NaN for the image '0004'"):
        observe(logarithm(tmp_path), calibration_set(6, images=Pictures(images)))


def test_a_group_without_images_is_an_error_with_the_counts(model: ExportedModel) -> None:
    calibration = replace(calibration_set(8), population={"dark": 60, "light": 30, "other": 3})
    with pytest.raises(DataError, match=r"no calibration image for group\(s\) other .*dark: 6, light: 2, other: 0"):
        observe(model, calibration)


def test_what_a_sample_leaves_out_changes_scales_little(model: ExportedModel) -> None:
    calibration = calibration_set(64)
    whole, sampled = observe(model, calibration, sample=0), observe(model, calibration, sample=1024)
    assert max(activation.pixels for activation in sampled.observed) > 1
    for rule, most in (("minmax", 0), ("mean_minmax", 1e-6), ("percentile=99.9", 0.05), ("mse", 0.1)):
        one, other = (scales(record, rule) for record in (whole, sampled))
        assert np.abs(other / one - 1).max() <= most, rule


def scales(record: CalibrationRecord, rule: str) -> np.ndarray:
    ranges = ranges_of(record, Rule.parse(rule), Policy(), IntegerFormat())
    return ranges.high - np.minimum(ranges.low, 0)
