"""A planted case: a network in which one channel of one layer matters to one group alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fqbench.config import configure
from fqbench.run import Run
from fqbench.workspace import Workspace

SIDE = 8
SMALL = 1 / 32  # next to a weight of 1: four of 127 levels of 8 bits, and none of 7 of 4 bits
PLANTED = "planted"


def write_pictures(root: Path, count: int = 1200, *, seed: int = 0) -> Path:
    """Write PNGs: for the group ``red`` the label is the red channel, for ``blue`` the blue one."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    rows = []
    for index in range(count):
        label, group = index % 2, ("red", "blue")[index // 2 % 2]
        level = 128 + (1 if label else -1) * rng.uniform(8, 60)
        pixels = np.full((SIDE, SIDE, 3), 128.0)
        pixels[..., 0 if group == "red" else 2] = level
        pixels += rng.normal(0, 4, pixels.shape)
        name = f"images/{index:04d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name)
        split = ("train", "val", "test", "test")[index // 4 % 4]
        rows.append([name, split, ("no", "yes")[label], group])
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "split", "label", "colour"])
        writer.writerows(rows)
    return root


def write_planted(path: Path) -> Path:
    """Write the network: stem, the planted layer, three wide layers that 4 bits do not hurt, and a head.

    The planted layer's second channel is a constant, with a weight of 1, and the blue channel, with a small one. Of
    4 bits with one scale per channel, the small weight is nothing.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    channels = 64
    stem = np.zeros((4, 3, 1, 1), np.float32)
    stem[0, 0], stem[1, 2], stem[2, 1] = 1, 1, 1  # red, blue, green; the fourth is a constant
    planted = np.zeros((2, 4, 1, 1), np.float32)
    planted[0, 0], planted[1, 1], planted[1, 3] = SMALL, SMALL, 1
    wide = np.zeros((channels, 2, 1, 1), np.float32)
    wide[0::2, 0], wide[1::2, 1] = 1 / SMALL, 1 / SMALL
    same = np.eye(channels, dtype=np.float32)[:, :, None, None]
    head = np.zeros((channels, 2), np.float32)
    head[:, 1], head[:, 0] = 3, -3
    constants = {
        "stem": stem,
        "stem.bias": np.array([0, 0, 0, 1], np.float32),
        "planted": planted,
        "planted.bias": np.array([0, -1], np.float32),
        "wide": wide,
        "same_1": same,
        "same_2": same,
        "head": head,
        "head.bias": np.array([1, -1], np.float32) * 3 * channels * 128 / 255,
    }
    nodes = [
        helper.make_node("Conv", ["images", "stem", "stem.bias"], ["a"], name="/stem/Conv"),
        helper.make_node("Conv", ["a", "planted", "planted.bias"], ["b"], name="/planted/Conv"),
        helper.make_node("Conv", ["b", "wide"], ["c"], name="/wide/Conv"),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("Conv", ["d", "same_1"], ["e"], name="/same_1/Conv"),
        helper.make_node("Conv", ["e", "same_2"], ["f"], name="/same_2/Conv"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["h"], name="flatten"),
        helper.make_node("Gemm", ["h", "head", "head.bias"], ["logits"], name="/head/Gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def planted_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="session")
def planted_run(
    pictures: Path, planted_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    """Make a run on the planted case, in a workspace that all tests share."""
    model = write_planted(tmp_path_factory.mktemp("model") / "planted.onnx")

    def make(workspace: Path | None = None, **flags: object) -> Run:
        asked = {
            "data": "folder",
            "root": pictures,
            "onnx": model,
            "size": SIDE,
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
            "calib_n": 64,
            "rounds": 20,
            "seconds": 0.0,
            "replicates": 200,
        }
        return Run(configure(**(asked | flags)), Workspace(workspace or planted_workspace))

    return make
