"""The study's models on every CPU runtime, and the peers' own products on the same weights, in one run.

Usage: python benchmarks/latency.py [--models a,b] [--size 224] [--batch 1,8] [--threads 1,2] [--rounds 50]

Weights are drawn from a seed, BatchNormalization scales at random: a compiler drops branches whose scales are zero.
Each model has a process of its own with a budget of seconds. Ratios are to ONNX Runtime's FP32 in the same interleaved
rounds, and hold for the CPU that is printed. Peers: onnxruntime's `quantize_static` with its defaults, and per channel;
`nncf.quantize` with its defaults (`pip install nncf`), compiled by OpenVINO. What is not installed or refused is named.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fqbench import plugins
from fqbench.contracts.artifacts import Artifact, ExportedModel
from fqbench.contracts.scheme import Scheme
from fqbench.errors import FqbenchError
from fqbench.latency.protocol import Subject, measure
from fqbench.latency.results import SubjectFacts
from fqbench.machine import this_machine, usable_cores
from fqbench.models.zoo import STUDY
from fqbench.testing.planned import write_artifact
from fqbench.testing.study_models import study_model
from fqbench.testing.tiny_model import Pictures, calibration_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fqbench.quant.calibration import CalibrationSet

IMAGES = 16
INT8, PACKED = Scheme(bias_correction="off"), Scheme(bits=4, bias_correction="off", rounding="nearest")
OURS = (
    ("ort", Scheme.float32()),
    ("ort", INT8),
    ("ort", PACKED),
    ("openvino", Scheme.float32()),
    ("openvino", Scheme.cast("bf16")),
    ("openvino", INT8),
    ("openvino", PACKED),
    ("torch_compile", Scheme.float32()),
    ("torch_compile", Scheme.cast("bf16")),
    ("torch_compile", INT8),
    ("torch_compile", PACKED),
)
QUANTIZED = {INT8.label, PACKED.label}
PEER = "peer: "
HEAD = ("model", "batch", "threads", "artifact", "p50 ms", "of ORT FP32's speed", "int8 MACs", "MB")


class Reader:
    """Calibration images for onnxruntime's quantizer."""

    def __init__(self, images: NDArray[np.float32], name: str) -> None:
        self.rest = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image, or None."""
        return next(self.rest, None)


def main() -> None:
    """Print one table, a row for each model, batch size, number of threads and artifact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(STUDY))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--budget", type=float, default=1800.0, help="Seconds for each model.")
    parser.add_argument("--backends", default="ort,openvino,torch_compile")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        for row in _rows(options.child, options):
            print(json.dumps(row), flush=True)
        return
    machine = this_machine()
    print(f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.features)}; {options.size} px\n")
    print("| " + " | ".join(HEAD) + " |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    told: list[str] = []
    for name in options.models.split(","):
        rows = []
        for row in _in_a_process(name, options.budget, told):
            rows.append(row)
            _print_row(name, row, told)
        _compare(name, rows, told)
    print("\n" + "\n".join(told))


def _in_a_process(name: str, budget: float, told: list[str]) -> Iterator[dict[str, Any]]:
    """Measure one model in a process of its own; yield its rows as they come, until its budget is over."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        alarm = Timer(budget, process.kill)
        alarm.start()
        try:
            yield from (json.loads(line) for line in process.stdout or () if line.startswith("{"))
        finally:
            over = not alarm.is_alive()
            alarm.cancel()
    if over:
        told.append(f"{name}: over its budget of {budget:g} s; what it measured until then is above.")
    elif process.returncode:
        told.append(f"{name}: ended with {process.returncode}.")


def _print_row(name: str, row: dict[str, Any], told: list[str]) -> None:
    if "left_out" in row:
        told.append(f"{name}: {row['left_out']}")
        return
    low, value, high = row["speedup"]
    cells = [name, row["batch"], row["threads"], row["artifact"], f"{row['p50']:.2f}"]
    cells += [f"{value:.2f}x [{low:.2f}, {high:.2f}]", f"{row['share']:.0%}", f"{row['bytes'] / 1e6:.1f}"]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def _compare(name: str, rows: list[dict[str, Any]], told: list[str]) -> None:
    """Say how fast the best of ours is next to the best of the peers, for each batch size and number of threads."""
    for batch, threads in dict.fromkeys((row["batch"], row["threads"]) for row in rows if "batch" in row):
        own = [row for row in rows if (row.get("batch"), row.get("threads")) == (batch, threads)]
        ours = [row for row in own if row["quantized"] and not row["artifact"].startswith(PEER)]
        peers = [row for row in own if row["artifact"].startswith(PEER)]
        if ours and peers:
            best, peer = (max(some, key=lambda row: row["speedup"][1]) for some in (ours, peers))
            ratio = best["speedup"][1] / peer["speedup"][1]
            told.append(
                f"{name}, batch {batch}, {threads} thread(s): {best['artifact']} {best['speedup'][1]:.2f}x, "
                f"{peer['artifact']} {peer['speedup'][1]:.2f}x: {ratio:.2f} of the best peer."
            )


def _rows(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, options.size, options.size), dtype=np.float32)
    with TemporaryDirectory(prefix="fqbench-latency-") as scratch:
        root = Path(scratch)
        (root / "model").mkdir()
        model = study_model(name, root / "model", size=options.size)
        calibration = calibration_set(n=IMAGES, images=Pictures(images))
        left_out: list[str] = []
        artifacts = [*_ours(model, calibration, root, options.backends.split(","), left_out)]
        artifacts += [*_peers(model, images, root, left_out)]
        for text in left_out:
            yield {"left_out": text}
        for threads in map(int, options.threads.split(",")):
            if threads > usable_cores():
                yield {"left_out": f"{threads} threads are more than the {usable_cores()} cores here"}
                continue
            loaded = dict(_loaded(artifacts, threads, images, left_out := []))
            for text in left_out:
                yield {"left_out": text}
            for batch in map(int, options.batch.split(",")):
                yield from _measured(loaded, images, batch, threads, options)


def _ours(
    model: ExportedModel, calibration: CalibrationSet, root: Path, backends: list[str], left_out: list[str]
) -> Iterator[tuple[str, Artifact]]:
    for backend, scheme in OURS:
        if backend not in backends:
            continue
        out = root / f"{backend}-{scheme.label}"
        out.mkdir()
        try:
            given = calibration if scheme.needs_calibration else None
            yield f"{backend} {scheme.label}", write_artifact(plugins.backend(backend), model, scheme, out, given)
        except FqbenchError as error:
            left_out.append(f"{backend} {scheme.label}: {error}")


def _peers(
    model: ExportedModel, images: NDArray[np.float32], root: Path, left_out: list[str]
) -> Iterator[tuple[str, Artifact]]:
    """Yield the peers' products as files that our sessions load as they are: nothing of ours is in them."""
    from onnxruntime.quantization import quantize_static

    details = {"input_shape": list(model.input_shape)}
    logging.getLogger().setLevel(logging.ERROR)
    for label, options in (("quantize_static", {}), ("quantize_static per channel", {"per_channel": True})):
        file = f"{label.replace(' ', '-')}.onnx"
        quantize_static(str(model.path), str(root / file), Reader(images, "images"), **options)
        yield f"{PEER}ort {label}", Artifact("ort", Scheme.float32(), root, (file,), details)
    try:
        import nncf
        import openvino
    except ImportError as error:
        left_out.append(f"nncf.quantize: {error}")
        return
    nncf.set_log_level(logging.ERROR)
    kind = nncf.ModelType.TRANSFORMER if "vit" in model.name else None
    data = nncf.Dataset([image[None] for image in images])
    made = nncf.quantize(openvino.Core().read_model(model.path), data, model_type=kind, subset_size=len(images))
    openvino.save_model(made, root / "nncf.xml", compress_to_fp16=False)
    yield f"{PEER}nncf + openvino", Artifact("openvino", Scheme.float32(), root, ("nncf.xml", "nncf.bin"), details)


def _loaded(
    artifacts: list[tuple[str, Artifact]], threads: int, images: NDArray[np.float32], left_out: list[str]
) -> Iterator[tuple[str, tuple[Artifact, Any]]]:
    for label, artifact in artifacts:
        load = partial(plugins.backend(artifact.backend).load, artifact, threads=threads, device="cpu")
        try:
            session = load()
            session.run(images[:1])
        except FqbenchError as error:
            left_out.append(f"{label}: {error}")
            continue
        yield label, (artifact, session)


def _measured(
    loaded: dict[str, tuple[Artifact, Any]],
    images: NDArray[np.float32],
    batch: int,
    threads: int,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    subjects = [
        Subject(
            label, label, session, facts=SubjectFacts(artifact.backend, threads=threads, bytes=artifact.size_on_disk)
        )
        for label, (artifact, session) in loaded.items()
    ]
    rounds = {"rounds": options.rounds, "seconds": options.seconds}
    report = measure(subjects, images, batch=batch, reference=subjects[0].id, **rounds)
    for one in report.subjects:
        speedup = one.speedup
        assert speedup is not None, "the first artifact is the reference"
        yield {
            "batch": batch,
            "threads": threads,
            "artifact": one.label,
            "p50": one.p50_ms.value,
            "speedup": [speedup.low, speedup.value, speedup.high],
            "share": one.arithmetic.integer_share,
            "bytes": one.facts.bytes,
            "quantized": one.label.partition(" ")[2] in QUANTIZED,
        }


if __name__ == "__main__":
    main()
