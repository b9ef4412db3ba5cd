"""Where Q/DQ nodes stand in our TensorRT models and in those of NVIDIA's own quantizer, tensor by tensor.

Usage: python benchmarks/trt_placement.py --modelopt PYTHON [--size N] [--model NAME ...] [--keep DIR]

PYTHON is an interpreter of an environment of its own with ``pip install 'nvidia-modelopt[onnx]'``, which quantizes on
the CPU (``python -m modelopt.onnx.quantization --calibration_eps cpu``). The study's models have weights drawn from a
seed. Each difference is named with its reason; one that has none ends the script with exit code 1. Our rule checker
runs over NVIDIA's files, too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from fqbench.backends.trt import TensorRtBackend
from fqbench.backends.trt.rules import violations

from fqbench.contracts.scheme import Scheme
from fqbench.models.zoo import STUDY
from fqbench.quant.qdq_graph import CONVOLUTIONS, WEIGHTED, QdqGraph
from fqbench.testing.planned import write_artifact
from fqbench.testing.study_models import study_model
from fqbench.testing.tiny_model import Pictures, calibration_set

IMAGES = 4
# What reads a tensor that one of the two quantizes and the other does not: why ours is as it is.
REASONS = {
    "MaxPool": "it gives values of its input, so TensorRT moves the Q behind it to before it: one pair is enough",
    "attention": "products of two activations and the softmax between them: left in float by choice, and not measured",
    "transformer Add": "a residual Add after a matrix product; the documentation's advice is about convolutions",
    "LayerNormalization": "the residual stream of a transformer: left in float by choice, likewise",
    "Concat": "its inputs' ranges are the ones of its output, which is quantized",
}


@dataclass(frozen=True)
class Quantized:
    """The activations of a Q/DQ file that are quantized, and what reads each in 8 bits."""

    readers: dict[str, list[str]]
    operators: Counter[str]
    broken: int

    @classmethod
    def of(cls, path: Path) -> Quantized:
        """Read a file."""
        model = onnx.load(path)
        graph = QdqGraph(model.graph)
        readers: dict[str, list[str]] = {}
        for node in graph.nodes("QuantizeLinear"):
            if not graph.is_weight(node):
                pairs = graph.consumers.get(node.output[0], [])
                found = [_kind(graph, reader) for pair in pairs for reader in graph.consumers.get(pair.output[0], [])]
                readers.setdefault(node.input[0], []).extend(found)
        weighted = [one for one in graph.nodes(*WEIGHTED) if graph.dequantized_from(one.input[1]) is not None]
        return cls(readers, Counter(one.op_type for one in weighted), len(violations(model.graph)))


def main() -> int:
    """Compare, and return 1 where a difference has no reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modelopt", required=True, help="Python interpreter that has nvidia-modelopt[onnx].")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--model", action="append", choices=STUDY)
    parser.add_argument(
        "--keep", type=Path, help="Folder to keep the files in; there already, they are not made again."
    )
    options = parser.parse_args()
    unexplained = 0
    with tempfile.TemporaryDirectory(prefix="fqbench-placement-") as scratch:
        root = options.keep or Path(scratch)
        for name in options.model or STUDY:
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            ours, theirs = _make(name, folder, options.size, options.modelopt)
            unexplained += _compare(name, Quantized.of(ours), Quantized.of(theirs))
    return 1 if unexplained else 0


def _make(name: str, folder: Path, size: int, modelopt: str) -> tuple[Path, Path]:
    exported, ours, theirs = folder / "fp32", folder / "ours", folder / "modelopt.onnx"
    if not theirs.exists():
        exported.mkdir(exist_ok=True)
        ours.mkdir(exist_ok=True)
        model = study_model(name, exported, size=size)
        noise = np.random.default_rng(0).normal(0, 1, (IMAGES, 3, size, size)).astype(np.float32)
        calibration = calibration_set(n=IMAGES, images=Pictures(noise))
        write_artifact(TensorRtBackend(), model, Scheme(bias_correction="off"), ours, calibration)
        flags = ["--quantize_mode=int8", "--calibration_method=max", "--calibration_eps", "cpu"]
        command = [modelopt, "-m", "modelopt.onnx.quantization", f"--onnx_path={model.path}", *flags]
        command += ["--high_precision_dtype=fp32", f"--output_path={theirs}"]
        subprocess.run(command, check=True, capture_output=True)
    return ours / "model.onnx", theirs


def _kind(graph: QdqGraph, reader: onnx.NodeProto) -> str:
    if reader.op_type == "MatMul" and graph.dequantized_from(reader.input[1]) is not None:
        weight = graph.dequantized_from(reader.input[1])
        if weight is None or not graph.is_weight(weight):
            return "attention"
    if reader.op_type == "Add":
        return "Add" if any(_after_convolution(graph, name) for name in reader.input) else "transformer Add"
    return str(reader.op_type)


def _after_convolution(graph: QdqGraph, name: str) -> bool:
    node = graph.producers.get(graph.source(name))
    return node is not None and node.op_type in CONVOLUTIONS | {"Relu", "Clip", "BatchNormalization"}


def _compare(name: str, ours: Quantized, theirs: Quantized) -> int:
    same = ours.readers.keys() & theirs.readers.keys()
    print(f"{name}: {len(same)} tensors quantized in both; ours {len(ours.readers)}, NVIDIA's {len(theirs.readers)}")
    print(f"  in 8 bits, ours: {dict(ours.operators)}; NVIDIA's: {dict(theirs.operators)}")
    print(f"  violations of our rules, ours: {ours.broken}; NVIDIA's: {theirs.broken}")
    unexplained = ours.broken + theirs.broken
    for side, mine, other in (("NVIDIA's", theirs, ours), ("ours", ours, theirs)):
        alone = {tensor: readers for tensor, readers in mine.readers.items() if tensor not in other.readers}
        kinds = Counter(_reason_of(readers) for readers in alone.values())
        for kind, count in sorted(kinds.items()):
            reason = REASONS.get(kind, "NOT EXPLAINED")
            unexplained += 0 if kind in REASONS and side == "NVIDIA's" else count
            print(f"  in {side} alone: {count} that {kind} reads: {reason}")
    return unexplained


def _reason_of(readers: list[str]) -> str:
    return next((reader for reader in readers if reader in REASONS), readers[0] if readers else "nothing")


if __name__ == "__main__":
    sys.exit(main())
