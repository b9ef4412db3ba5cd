"""Adopting, quantizing and evaluating need no torch: the base install is enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.models.adopt.network import Written, write

BLOCKED = ("torch", "torchvision", "timm", "onnxscript", "onnx_ir")
PROGRAM = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from fqbench.cli import main
main(sys.argv[1:])
"""


def test_a_strange_file_goes_all_the_way_without_torch(photos: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", Written(opset=11, layout="nhwc", head="sigmoid", batch=1, preprocessing="inside"))
    asked = ["--data", "folder", "--root", str(photos), "--onnx", str(path), "--layout", "nhwc"]
    asked += ["--mean", "none", "--scale-pixels", "255", "--calib-n", "16", "--workspace", str(tmp_path / "workspace")]
    for verb in (["quantize"], ["eval", "--replicates", "200"]):
        command = [sys.executable, "-c", PROGRAM, *verb, *asked]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "fp32" in done.stdout


def test_several_attributes_need_no_torch_either(photos: Path, tmp_path: Path) -> None:
    """Found by name, checked, quantized, evaluated and gated: all on one model with four outputs."""
    path = write(tmp_path / "a.onnx", Written(head="attributes", opset=13))
    (tmp_path / "limits.yaml").write_text("limits: {max_accuracy_drop: 1.0}\n")
    data = ["--data", "folder", "--root", str(photos), "--column", "label=1,age=2", "--workspace", str(tmp_path / "ws")]
    stated = ["--onnx", str(path), "--mean", "0.45,0.5,0.55", "--std", "0.25,0.2,0.3", "--calib-n", "16"]
    gate = ["gate", "--limits", str(tmp_path / "limits.yaml"), "--replicates", "200"]
    for verb, more in ((["models", "check", str(path)], []), (["eval", "--replicates", "200"], stated), (gate, stated)):
        command = [sys.executable, "-c", PROGRAM, *verb, *data, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "age: max_accuracy_drop" in done.stdout
