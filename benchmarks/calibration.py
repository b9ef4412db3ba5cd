"""What calibration costs: time as a ratio to FP32 inference, and peak memory, beside the usual tools, in one run.

Usage: python benchmarks/calibration.py [--models resnet50,mobilenet_v2] [--images 64,256,1024] [--batch 8] [--rounds 3]

Models are timm's at 224x224 with BatchNorm scales drawn at random (0.4 to 1.2), so that no branch is zero. Every figure
comes from a process of its own, which measures its peak memory; time is taken around the calibration of already loaded
pictures, model loading included, and compared with plain FP32 inference of the same pictures at the same batch size in
the same process; the memory is read before that inference has begun. ONNX Runtime's histogram calibrators keep every
activation and are run on few images only. NNCF is measured where it is installed, with its own backend for ONNX;
--nncf-python names the interpreter of another environment that has it (with onnx and onnxruntime).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODELS = {"resnet50": "resnet50", "mobilenet_v2": "mobilenetv2_100"}
GOALS = {"resnet50": 1.3, "mobilenet_v2": 1.8}
SIZE = 224
FEW = {"ort-minmax": 128, "ort-percentile": 16, "ort-entropy": 16, "nncf": 64, "nncf-histogram": 64}


def main() -> None:
    """Print the table, or do one measurement of it where this process was started for that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,mobilenet_v2")
    parser.add_argument("--images", default="64,256,1024")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", default="", help="Methods to leave out, comma-separated.")
    parser.add_argument("--nncf-python", default=sys.executable)
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)  # one measurement, in JSON
    parser.add_argument("--model-file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(
            json.dumps(_measured(options.only, options.model_file, int(options.images), options.batch, options.rounds))
        )
        return
    from fqbench.machine import this_machine, usable_cores

    machine = this_machine()
    print(f"{machine.cpu}, {usable_cores()} cores, {', '.join(machine.features)}; load {os.getloadavg()[0]:.1f}")
    print(f"batch {options.batch}; ratio: calibration / FP32 inference of the same images, median of rounds (range)")
    with tempfile.TemporaryDirectory(prefix="fqbench-benchmark-") as folder:
        for name in options.models.split(","):
            path = Path(folder) / f"{name}.onnx"
            _export(MODELS[name], path)
            print(f"\n{name}, goal {GOALS[name]}x")
            for method, images in _plan(options):
                _row(method, images, path, options)


def _plan(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    left_out = set(filter(None, options.without.split(",")))
    for images in map(int, options.images.split(",")):
        yield "fqbench", images
    for method, images in FEW.items():
        if method not in left_out:
            yield method, images


def _row(method: str, images: int, path: Path, options: argparse.Namespace) -> None:
    asked = ["--only", method, "--model-file", str(path), "--images", str(images)]
    rounds = options.rounds if images <= 256 else 1
    python = options.nncf_python if method.startswith("nncf") else sys.executable
    command = [python, __file__, *asked, "--batch", str(options.batch), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"  {method:15} {images:5} images  left out: {last[:140]}")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    ratios = found["ratios"]
    print(
        f"  {method:15} {images:5} images  {statistics.median(ratios):5.2f}x ({min(ratios):.2f} to {max(ratios):.2f})  "
        f"{found['fp32_ms']:6.1f} ms FP32 per image  peak {found['peak_mb']:6.0f} MB",
        flush=True,
    )


def _measured(method: str, model: Path, images: int, batch: int, rounds: int) -> dict[str, Any]:
    source = _Source(images)
    calibrate = METHODS[method](model, source, batch)
    calibrate()
    peak = _peak()
    inference = _inference(model, source, batch)
    inference()
    times = [(_seconds(inference), _seconds(calibrate)) for _ in range(rounds)]
    return {
        "ratios": [calibration / alone for alone, calibration in times],
        "fp32_ms": 1e3 * statistics.median(alone for alone, _ in times) / images,
        "peak_mb": peak,
    }


class _Source:
    """Pictures that take no memory of their own: 32 different ones, over and over."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pictures = np.random.default_rng(0).normal(size=(32, 3, SIZE, SIZE)).astype(np.float32)

    def __len__(self) -> int:
        return self.count

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.pictures[np.asarray(rows) % len(self.pictures)]

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        for start in range(0, self.count, size):
            yield self.batch(np.arange(start, min(start + size, self.count)))


def _inference(model: Path, source: _Source, batch: int) -> Callable[[], None]:
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run() -> None:
        for images in source.batches(batch):
            session.run(None, {"images": images})

    return run


def _fqbench(model: Path, source: _Source, batch: int) -> Callable[[], None]:
    import pandas as pd

    from fqbench.config import Preprocessing
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet
    from fqbench.quant.observe import observe

    groups = [f"group {number % 8}" for number in range(len(source))]
    frame = pd.DataFrame({"sample_id": [str(number) for number in range(len(source))], "group": groups})
    calibration = CalibrationSet("random", frame, source, np.arange(len(source)))
    exported = ExportedModel("model", "model", model, "0" * 64, ("no", "yes"), Preprocessing(size=SIZE))

    def run() -> None:
        observe(exported, calibration, batch_size=batch)

    return run


def _onnxruntime(method: str) -> Callable[[Path, _Source, int], Callable[[], None]]:
    def prepare(model: Path, source: _Source, batch: int) -> Callable[[], None]:
        import contextlib
        import io

        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        from fqbench.quant.graph import clean

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.batches = source.batches(batch)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                images = next(self.batches, None)
                return None if images is None else {"images": images}

        def run() -> None:
            with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
                cleaned = clean(model, Path(scratch) / "clean.onnx")
                kinds = sorted({*QLinearOpsRegistry, *QDQRegistry})
                augmented = str(Path(scratch) / "augmented.onnx")
                calibrator = create_calibrator(cleaned, kinds, augmented, getattr(CalibrationMethod, method))
                calibrator.collect_data(Reader())
                calibrator.compute_data()

        return run

    return prepare


def _nncf(histogram: bool) -> Callable[[Path, _Source, int], Callable[[], None]]:
    def prepare(model: Path, source: _Source, batch: int) -> Callable[[], None]:
        try:
            import nncf
            import onnx
        except ImportError as error:
            raise SystemExit(f"{error.name} is not installed here") from error
        parameters = {}
        if histogram:
            from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
            from nncf.quantization.range_estimator import (
                AggregatorType,
                RangeEstimatorParameters,
                StatisticsCollectorParameters,
                StatisticsType,
            )

            end = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN)
            parameters["advanced_parameters"] = AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParameters(end, end)
            )

        def run() -> None:
            data = nncf.Dataset(
                list(range(0, len(source), batch)), lambda s: {"images": source.batch(np.arange(s, s + batch))}
            )
            nncf.quantize(onnx.load(model), data, subset_size=len(source) // batch, **parameters)

        return run

    return prepare


METHODS: dict[str, Callable[[Path, _Source, int], Callable[[], None]]] = {
    "fqbench": _fqbench,
    "ort-minmax": _onnxruntime("MinMax"),
    "ort-percentile": _onnxruntime("Percentile"),
    "ort-entropy": _onnxruntime("Entropy"),
    "nncf": _nncf(histogram=False),
    "nncf-histogram": _nncf(histogram=True),
}


def _export(entry: str, path: Path) -> None:
    import contextlib
    import io
    import warnings

    import timm
    import torch

    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = timm.create_model(entry, num_classes=2)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.4, 1.2, generator=generator)
        norm.momentum = None
    with torch.no_grad():  # statistics of the noise that is fed later, so that activations stay in bounds
        network.train()(torch.randn(8, 3, SIZE, SIZE, generator=generator))
    example = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=21,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    program.save(path)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak() -> float:
    """Return the highest resident memory of this process so far, MB; getrusage would start from the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


if __name__ == "__main__":
    main()
