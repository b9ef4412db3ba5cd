"""What sample, batch size and threads change in the scales of a trained model, beside another draw of images.

Usage: python benchmarks/calibration_scales.py [--workspace DIR] [--sizes 64,224] [--images 256] [...]

The model is the demo's (synthfaces at 64 pixels, resnet10t), trained first where the workspace does not have it; any
other flag of `fqbench quantize` changes it. A scale is compared with the one that the same rule gives when every value
of every activation is counted. At 224 pixels the same weights look at pictures drawn at that size: the maps are as
large as those of a model for photographs, and the sample leaves out more.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import IntegerFormat
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import ranges_of
from fqbench.quant.record import CalibrationRecord
from fqbench.quant.rules import Rule
from fqbench.stages.export import export
from fqbench.stages.sample import sample
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

RULES = ("minmax", "mean_minmax", "percentile=99", "percentile=99.9", "percentile=99.99", "entropy", "mse")
BITS = (8, 4)
SIZE = 64
GROUPS = "skin_tone,age_group"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--sizes", default=f"{SIZE},224")
    parser.add_argument("--images", type=int, default=256)
    options, rest = parser.parse_known_args()
    flags: dict[str, Any] = {"calib": "random", "calib_by": GROUPS, "calib_n": options.images} | flags_of(rest)
    run = fqbench.experiment(options.workspace, reporter=TerminalReporter(), **flags)
    trained = export(run)
    with tempfile.TemporaryDirectory(prefix="fqbench-scales-") as folder:
        for size in map(int, options.sizes.split(",")):
            model = trained if size == SIZE else _at(trained, size, Path(folder))
            drawn = run if size == SIZE else run.with_options("data", size=size, images=4 * options.images)
            draws = [sample(drawn.with_options("quantize", calib_seed=seed), model)[0] for seed in (0, 1)]
            _sampled(model, draws[0], draws[1])
            _batches(model, draws[0])


def _sampled(model: ExportedModel, chosen: CalibrationSet, others: CalibrationSet) -> None:
    default, everything = observe(model, chosen), observe(model, chosen, sample=0)
    other_draw = observe(model, others, sample=0)
    partial = sum(not activation.complete for activation in default.observed)
    print(
        f"\n{model.name}, {model.preprocessing.size[0]} pixels, {len(chosen)} images, {len(default.names)} activations,"
    )
    print(f"{partial} of them sampled: change of a scale when only the sample is counted, and with other images")
    print("| rule | bits | median | largest | above 1 % | of activation | other images: median | largest | above 1 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rule in RULES:
        for bits in BITS if rule in {"mse", "entropy"} else BITS[:1]:
            exact = scales(everything, rule, bits)
            change, draw = (np.abs(scales(record, rule, bits) / exact - 1) for record in (default, other_draw))
            cells = [_figures(change), default.names[int(change.argmax())], _figures(draw)]
            print(f"| {rule} | {bits} | {' | '.join(cells)} |", flush=True)


def _batches(model: ExportedModel, chosen: CalibrationSet) -> None:
    print("\nlargest relative change of a scale from batch size 1 and one thread, over all rules and bits")
    first = observe(model, chosen, batch_size=1, threads=1)
    for batch_size, threads in ((1, 2), (8, 1), (8, 2), (32, 1), (32, 2)):
        other = observe(model, chosen, batch_size=batch_size, threads=threads)
        most = max(np.abs(scales(other, r, b) / scales(first, r, b) - 1).max() for r in RULES for b in BITS)
        print(f"batch size {batch_size:2}, {threads} thread(s): {most:.1e}", flush=True)


def scales(record: CalibrationRecord, rule: str, bits: int) -> NDArray[np.float64]:
    """Return the scale of each activation."""
    quantizer = IntegerFormat(bits)
    ranges = ranges_of(record, Rule.parse(rule), Policy(), quantizer)
    return quantizer.grid(ranges.low, ranges.high)[0]


def _figures(change: NDArray[np.float64]) -> str:
    return f"{np.median(change):.2%} | {change.max():.2%} | {(change > 0.01).sum()}"


def _at(model: ExportedModel, size: int, folder: Path) -> ExportedModel:
    """Return the same weights with an input of another size."""
    import onnx

    graph = onnx.load(model.path)
    for dimension in graph.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = size
    del graph.graph.value_info[:]
    path = folder / f"{size}.onnx"
    onnx.save(graph, path)
    return replace(model, path=path, preprocessing=model.preprocessing.model_copy(update={"size": (size, size)}))


if __name__ == "__main__":
    main()
