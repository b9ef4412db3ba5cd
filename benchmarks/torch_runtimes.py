"""PyTorch's runtimes beside ONNX Runtime, FP32 and INT8, in one run: eager, torch.compile, FX, PT2E.

Usage: python benchmarks/torch_runtimes.py [--models a,b] [--size 224] [--batch 1] [--threads 1] [--rounds 30]

Weights are random: what is timed does not depend on them. torch_compile runs 8 bits in the integer kernels that torchao
(`pip install 'fqbench[inductor]'`) teaches Inductor, with fqbench's own ranges and weights; "PT2E int8" is torchao's
flow as it comes, with the X86 Inductor quantizer and its own ranges (docs/decisions/0050). Ratios are to ONNX Runtime
FP32 of the same rounds; they hold for this machine's CPU features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from fqbench.backends.torch_fx.lowering import need_patterns

from fqbench import plugins
from fqbench.config import Preprocessing
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Method, Scheme
from fqbench.latency.protocol import Subject, measure
from fqbench.machine import this_machine
from fqbench.models import export, zoo
from fqbench.models.train import CHECKPOINT, save_checkpoint
from fqbench.plugins import Arithmetic
from fqbench.quant.calibration import CalibrationSet
from fqbench.testing.planned import write_artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.plugins import Session

CLASSES = ("a", "b")
CALIBRATION_IMAGES = 16
RUNTIMES = (
    ("ort", Scheme.float32()),
    ("ort", Scheme()),
    ("torch_fx", Scheme.float32()),
    ("torch_compile", Scheme.float32()),
    ("torch_fx", Scheme(method=Method.PTQ_DYNAMIC)),
    ("torch_fx", Scheme()),
    ("torch_compile", Scheme()),
)


class Noise:
    """Pictures of noise, for calibration."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal((CALIBRATION_IMAGES, 3, size, size), dtype=np.float32)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (len(rows), 3, H, W)."""
        return np.ascontiguousarray(self.images[rows])


class Pt2eSession:
    """A network quantized by torchao's PT2E flow and compiled by Inductor for one batch size."""

    arithmetic = Arithmetic(0, 0)

    def __init__(self, network: torch.nn.Module, images: NDArray[np.float32], freezing: bool) -> None:
        from torch._inductor import config

        need_patterns()
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        given = _channels_last(images)
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        network = network.eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            prepared = prepare_pt2e(torch.export.export(network, (given,)).module(), quantizer)
            prepared(given)
            self._run = torch.compile(convert_pt2e(prepared))
            with config.patch(freezing=freezing):  # unless frozen, weights are quantized anew in every call
                self._run(given)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images to logits."""
        with torch.no_grad():
            logits: NDArray[np.float32] = self._run(_channels_last(images)).numpy()
        return logits


def main() -> None:
    """Print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(zoo.STUDY))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = this_machine()
    print(f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.features)}; torch {torch.__version__}")
    print(f"{options.size} px, batch {options.batch}, {options.threads} thread(s)\n")
    print("| model | runtime | p50 | of ONNX Runtime FP32's speed | integer MACs | loaded in |")
    print("|---|---|---:|---:|---:|---:|")
    for name in options.models.split(","):
        torch.compiler.reset()
        with TemporaryDirectory(prefix="fqbench-benchmark-") as folder:
            _compare(name, Path(folder), options)


def _compare(name: str, folder: Path, options: argparse.Namespace) -> None:
    noise = Noise(options.size)
    network, model = _model(name, noise, folder)
    frame = pd.DataFrame({"sample_id": [str(row) for row in range(len(noise))], "group": "all"})
    calibration = CalibrationSet("random", frame, noise, np.arange(len(noise)))
    images = noise.images[: max(options.batch, 1) * (len(noise) // options.batch)]
    subjects, loaded = [], {}

    def add(label: str, load: Callable[[], Session]) -> None:
        start = time.perf_counter()
        session = load()
        session.run(images[: options.batch])
        loaded[label] = time.perf_counter() - start
        subjects.append(Subject(label, label, session))

    for backend, scheme in RUNTIMES:
        artifact = _artifact(backend, model, scheme, calibration, folder)
        add(artifact.label, partial(_load, artifact, options.threads))
    for label, freezing in (("PT2E int8", True), ("PT2E int8, not frozen", False)):
        add(label, partial(Pt2eSession, network, images[: options.batch], freezing))
    report = measure(subjects, images, batch=options.batch, rounds=options.rounds, reference=subjects[0].id)
    for row in report.subjects:
        speedup = row.speedup
        assert speedup is not None
        share = "not counted" if row.id.startswith("PT2E") else f"{row.arithmetic.integer_share:.0%}"
        ratio = f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"
        cells = [name, row.label, f"{row.p50_ms.value:.1f} ms", ratio, share, f"{loaded[row.id]:.1f} s"]
        print("| " + " | ".join(cells) + " |", flush=True)


def _model(name: str, noise: Noise, folder: Path) -> tuple[torch.nn.Module, ExportedModel]:
    torch.manual_seed(0)
    size = noise.images.shape[-1]
    network = zoo.build(zoo.find(name), classes=len(CLASSES), size=size).eval()
    preprocessing = Preprocessing(size=size)
    save_checkpoint(network, folder / CHECKPOINT)
    export.export(network, noise.images[:2], preprocessing, CLASSES, folder)
    exported = ExportedModel(
        name,
        name,
        folder / export.MODEL,
        "0" * 64,
        CLASSES,
        preprocessing,
        architecture=name,
        checkpoint=folder / CHECKPOINT,
    )
    return network, exported


def _artifact(
    backend: str, model: ExportedModel, scheme: Scheme, calibration: CalibrationSet, folder: Path
) -> Artifact:
    out = folder / f"{backend}-{scheme.label}"
    out.mkdir()
    given: Any = calibration if scheme.needs_calibration else None
    return write_artifact(plugins.backend(backend), model, scheme, out, given)


def _load(artifact: Artifact, threads: int) -> Session:
    return plugins.backend(artifact.backend).load(artifact, threads=threads, device="cpu")


def _channels_last(images: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
