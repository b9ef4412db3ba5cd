"""OpenVINO's and ONNX Runtime's INT8 answers on one recipe, image by image, for trained networks.

Usage: python benchmarks/runtimes_agree.py [--workspace DIR] [--models resnet10t,efficientnet_b0] [--drawn a,b] [...]

resnet10t with the demo's flags is the demo's model. ONNX Runtime's artifact is made with default options; what was
chosen for it (range rule, bias correction) is the recipe of OpenVINO's. Both answer the test split. Any other flag of
`fqbench quantize` changes the experiment. FP32 stands beside them, since two INT8 runtimes that differ as much from
each other as from FP32 are two roundings of the same model, and not a fault of one of them. `--drawn` adds networks
with drawn weights on noise: real graphs without training, whose logits are nearly equal, so that labels change easily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from synthfaces_networks import DOCS, parser, put, runs, setting

import fqbench
from fqbench import plugins
from fqbench.contracts.scheme import Scheme
from fqbench.machine import this_machine
from fqbench.run import Run
from fqbench.stages.predict import predict_split
from fqbench.stages.quantize import quantize
from fqbench.stages.read import read
from fqbench.stages.recipe import recipe_of
from fqbench.testing.planned import write_artifact
from fqbench.testing.study_models import study_model
from fqbench.testing.tiny_model import Pictures, calibration_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = ("resnet10t", "efficientnet_b0")
DRAWN, SIZE = 64, 64  # images, and their height and width
RUNTIMES = ("ort", "openvino")
HEADER = (
    "| network, recipe | compared | same label | largest difference of a logit | median | with another label |\n"
    "|---|---|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Comparison:
    """Two runtimes' logits on the same images.

    Attributes
    ----------
    agreement : float
        Share of images with the same largest logit.
    largest, median : float
        Over all images, of each image's largest difference of a logit; of the spread of FP32's logits.
    changed, images : int
        Images with another label, and all.
    """

    agreement: float
    largest: float
    median: float
    changed: int
    images: int

    @classmethod
    def of(cls, one: NDArray[np.float32], other: NDArray[np.float32], spread: float) -> Comparison:
        """Compare logits (images, classes)."""
        same = one.argmax(axis=1) == other.argmax(axis=1)
        difference = np.abs(one - other).max(axis=1) / spread
        return cls(
            float(same.mean()), float(difference.max()), float(np.median(difference)), int((~same).sum()), len(same)
        )


def main() -> None:
    """Print three rows for each network, and write them into the documentation if asked."""
    parsed = parser(__doc__, MODELS)
    parsed.add_argument("--predict-threads", type=int, default=None)
    parsed.add_argument("--drawn", default="")
    options, rest = parsed.parse_known_args()
    rows, notice = [], ""
    print(HEADER, flush=True)
    for name, run in runs(options, rest) if options.models else ():
        notice = f"{read(run).notice} {setting(run)}, on {this_machine().cpu} ({', '.join(this_machine().features)})."
        rows += _rows(name, run.with_options("eval", threads=options.predict_threads))
        print("\n".join(rows[-3:]), flush=True)
    for name in filter(None, options.drawn.split(",")):
        rows += _drawn_rows(name)
        print("\n".join(rows[-3:]), flush=True)
    if options.docs:
        put(DOCS / "openvino.md", "runtimes-agree", "\n".join([notice, "", HEADER, *rows]))


def _rows(name: str, run: Run) -> list[str]:
    first = fqbench.quantize(run)
    scheme = recipe_of(run, first.id).scheme
    artifacts = {"FP32": fqbench.reference(run), RUNTIMES[0]: first}
    artifacts[RUNTIMES[1]] = quantize(run.with_options("quantize", backend=RUNTIMES[1]), scheme)
    logits = {label: predict_split(run, artifact).predictions.logits for label, artifact in artifacts.items()}
    return _compared(f"{name}, {scheme.range_rule}" + (", bias correction" * (scheme.bias_correction == "on")), logits)


def _drawn_rows(name: str) -> list[str]:
    images = np.random.default_rng(0).standard_normal((DRAWN, 3, SIZE, SIZE), dtype=np.float32)
    scheme, logits = Scheme(range_rule="mse", bias_correction="off"), {}
    with TemporaryDirectory(prefix="fqbench-agree-") as scratch:
        for folder in ("model", "FP32", *RUNTIMES):
            Path(scratch, folder).mkdir()
        model = study_model(name, Path(scratch, "model"), size=SIZE)
        calibration = calibration_set(n=DRAWN, images=Pictures(images))
        for label in ("FP32", *RUNTIMES):
            backend = plugins.backend(RUNTIMES[0] if label == "FP32" else label)
            asked = Scheme.float32() if label == "FP32" else scheme
            artifact = write_artifact(backend, model, asked, Path(scratch, label), calibration)
            session = backend.load(artifact, threads=1, device="cpu")
            logits[label] = np.concatenate([session.run(image[None]) for image in images])
    return _compared(f"{name}, drawn weights, mse", logits)


def _compared(chosen: str, logits: Mapping[str, NDArray[np.float32]]) -> list[str]:
    spread = float(logits["FP32"].max() - logits["FP32"].min())
    rows = []
    for one, other in ((RUNTIMES[0], RUNTIMES[1]), ("FP32", RUNTIMES[0]), ("FP32", RUNTIMES[1])):
        found = Comparison.of(logits[one], logits[other], spread)
        kinds = [label if label == "FP32" else f"{label} int8" for label in (one, other)]
        cells = [chosen, " and ".join(kinds), f"{found.agreement:.2%}", f"{found.largest:.2%}", f"{found.median:.2%}"]
        rows.append("| " + " | ".join([*cells, f"{found.changed} of {found.images:,}"]) + " |")
    return rows


if __name__ == "__main__":
    main()
