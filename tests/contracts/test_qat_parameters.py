"""What quantization-aware training learned, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fqbench.contracts.qat_parameters import FACTS, SCALES, QatParameters, open_qat_parameters
from fqbench.contracts.qparams import QParams
from fqbench.errors import DataError


@pytest.fixture
def learned() -> QatParameters:
    scale = np.array([0.1, 1 / 3], dtype=np.float32)
    grids = {"relu": QParams(float(np.float32(1 / 3)), 0), "add": QParams(0.25, 128)}
    return QatParameters(4, 8, False, grids, {"layer1.0.conv1": scale}, {"activation_post_process_6": QParams(1, 3)})


def test_it_comes_back_to_the_last_bit(learned: QatParameters, tmp_path: Path) -> None:
    learned.save(tmp_path)
    back = open_qat_parameters(tmp_path)
    assert back.activations == learned.activations
    assert back.others == learned.others
    assert (back.bits, back.act_bits, back.symmetric) == (4, 8, False)
    np.testing.assert_array_equal(back.weights["layer1.0.conv1"], learned.weights["layer1.0.conv1"])
    assert back.weights["layer1.0.conv1"].dtype == np.float32
    assert back.ranges["add"] == (-32.0, 31.75)


def test_the_same_values_are_the_same_bytes(learned: QatParameters, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        learned.save(folder)
        files.append([(folder / file).read_bytes() for file in (FACTS, SCALES)])
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("file", "content"),
    [(FACTS, b"{"), (FACTS, b'{"format": 99}'), (FACTS, b'{"format": 1, "bits": 8}'), (SCALES, b"no archive")],
)
def test_a_damaged_one_is_an_error(learned: QatParameters, tmp_path: Path, file: str, content: bytes) -> None:
    learned.save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError):
        open_qat_parameters(tmp_path)
