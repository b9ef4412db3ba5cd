"""A study of a few cells on the folder of photos and the tiny ONNX classifier: seconds, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def write_study(tmp_path: Path, photos: Path, classifier: Path) -> Callable[..., Path]:
    """Write a study file; ``grid`` and other parts replace those of the small study."""

    def write(*, name: str = "small", **parts: Any) -> Path:
        own = {"onnx": str(classifier)}
        norm = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
        grid = {
            "models": [{"name": "bright", "model": own, "preprocessing": norm}],
            "data": [{"name": "photos", "data": {"name": "folder", "root": str(photos)}}],
            "methods": ["ptq_static", "ptq_dynamic"],
            "bits": [8, 4],
        }
        values: dict[str, Any] = {
            "name": name,
            "grid": grid | parts.pop("grid", {}),
            "exclude": [{"method": "ptq_dynamic", "bits": 4}],
            "config": {
                "quantize": {"calib_n": 16, "range_rule": "minmax", "rounding": "nearest", "bias_correction": "off"},
                "eval": {"replicates": 200, "threads": 1, "by": ["tone"]},
                "bench": {"rounds": 5, "seconds": 0},
            },
            "latency": False,
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(values | parts), encoding="utf-8")
        return file

    return write
