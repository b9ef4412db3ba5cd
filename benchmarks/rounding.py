"""What rounding from data and rescaling do to the answers of 4- and 2-bit weights: overall and for the worst group.

Usage: python benchmarks/rounding.py [--workspace DIR] [--models resnet10t,mobilenet_v2] [--bits 4,2] [--count N] [...]

Each model is trained on synthfaces at 64 pixels where the workspace does not have it; any other flag of `fqbench
quantize`, as --images 4800 or --epochs 5, changes the experiment. All arithmetic is simulated: weights are put back
into the FP32 graph as integer times scale, 8-bit activations are Q/DQ nodes with `minmax` ranges per tensor, and the
reference executor computes in float. With --biases corrected, biases take the mean shift of rounding back. Synthfaces
are drawn by a program: the table says how rounding behaves here and nothing about people.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flags import flags_of

import fqbench
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import IntegerFormat
from fqbench.contracts.qparams import QParams
from fqbench.data.samples import group_labels
from fqbench.fairness.literature import kl_divergence
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.graph import cleaned
from fqbench.quant.moments import InputMoments, input_moments
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import TensorRanges, ranges_of
from fqbench.quant.rescaling import channel_maxima, moves, rescale
from fqbench.quant.rounding import fit_rows, round_rows
from fqbench.quant.rules import Rule
from fqbench.quant.weights import correct_biases, scales, weights_of
from fqbench.reference_executor import reference_logits
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.prepare import prepare
from fqbench.stages.read import read
from fqbench.storage import file_digest
from fqbench.terminal import TerminalReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

GROUPS = "skin_tone,age_group"
WAYS = (("minmax", "nearest"), ("mse", "nearest"), ("mse", "from data"), ("mse, then fitted", "from data"))


@dataclass(frozen=True)
class Judged:
    """The images that answers are compared on."""

    batches: list[NDArray[np.float32]]
    labels: NDArray[np.int64]
    groups: NDArray[Any]

    def row(self, expected: NDArray[np.float32], found: NDArray[np.float32]) -> str:
        """Return the figures of a row: KL and accuracy, of all images and of the worst group."""
        right = found.argmax(axis=1) == self.labels
        parts = {group: self.groups == group for group in np.unique(self.groups)}
        divergence = kl_divergence(expected, found)
        far = {group: float(divergence[part].mean()) for group, part in parts.items()}
        accuracy = {group: float(right[part].mean()) for group, part in parts.items()}
        harmed, worst = max(far, key=far.__getitem__), min(accuracy, key=accuracy.__getitem__)
        cells = f"{divergence.mean():.4f} | {far[harmed]:.4f} ({harmed})"
        return f"{cells} | {right.mean():.1%} | {accuracy[worst]:.1%} ({worst})"


@dataclass(frozen=True)
class Graph:
    """An FP32 graph, the ranges of its activations and the moments of its weights' inputs."""

    name: str
    model: ModelProto
    ranges: TensorRanges
    moments: dict[str, InputMoments]

    @classmethod
    def of(cls, name: str, exported: ExportedModel, model: ModelProto, chosen: CalibrationSet) -> Graph:
        """Observe a graph on the calibration images."""
        import onnx

        with tempfile.TemporaryDirectory(prefix="fqbench-rounding-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            record = observe(replace(exported, path=path, digest=file_digest(path)), chosen)
        ranges = ranges_of(record, Rule.parse("minmax"), Policy(), IntegerFormat())
        return cls(name, model, ranges, {one.weight: one for one in input_moments(model, chosen)})

    def quantized(self, bits: int, rule: str, rounding: str, *, corrected: bool) -> ModelProto:
        """Return the graph with rounded weights and 8-bit activations."""
        import onnx
        from onnx import numpy_helper

        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
        rounded = {}
        for weight in weights_of(self.model):
            scale = scales(weight.rows, bits, rule.partition(",")[0])
            found = self.moments.get(weight.name) if rounding == "from data" else None
            moments = found and found.weighted(self.ranges.image_weights)
            if "fitted" in rule:
                levels, scale = fit_rows(weight.rows, scale, bits, moments)
            else:
                levels = round_rows(weight.rows, scale, bits, moments)
            shape = np.moveaxis(weight.values, weight.axis, 0).shape
            rounded[weight.name] = levels * scale[:, None]
            values = np.moveaxis(rounded[weight.name].reshape(shape), 0, weight.axis)
            tensors[weight.name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
        if corrected:
            biased = onnx.ModelProto()
            biased.CopyFrom(self.model)
            correct_biases(biased, self.ranges, rounded)
            _take_biases(changed, biased)
        for name, (low, high) in self.ranges.by_name.items():
            _fake_quantize(changed, name, QParams.of(low, high, 8))
        return changed


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--models", default="resnet10t,mobilenet_v2")
    parser.add_argument("--bits", default="4,2")
    parser.add_argument("--biases", choices=("kept", "corrected"), default="kept")
    parser.add_argument("--graphs", default="as-trained,rescaled")
    parser.add_argument("--count", type=int, default=None, help="images of the split to answer, evenly chosen")
    options, rest = parser.parse_known_args()
    flags: dict[str, Any] = {"calib_by": GROUPS, "by": GROUPS} | flags_of(rest)
    for name in options.models.split(","):
        run = fqbench.experiment(options.workspace, reporter=TerminalReporter(), model=name, **flags)
        _table(run, options)


def _table(run: Run, options: argparse.Namespace) -> None:
    exported, chosen = export(run), fqbench.calibrate(run)
    judged = _judged(run, exported, options.count)
    plain = cleaned(exported.path)
    found = tuple(moves(plain))
    models = {"as-trained": plain}
    if found:
        models["rescaled"], _ = rescale(plain, channel_maxima(plain, found, chosen))
    graphs = [Graph.of(name, exported, models[name], chosen) for name in options.graphs.split(",") if name in models]
    expected = reference_logits(plain.SerializeToString(), judged.batches)
    print(f"\n{read(run).notice}\n{exported.name}: {len(judged.labels)} images of the {run.config.eval.split} split,")
    print(f"{len(chosen)} calibration images; biases {options.biases}; {len(found)} tensors to rescale\n")
    print("| bits | graph | scales | rounding | KL from FP32 | of the worst group | accuracy | worst group |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| FP32 | as-trained | | | {judged.row(expected, expected)} |", flush=True)
    for bits in map(int, options.bits.split(",")):
        for graph in graphs:
            for rule, rounding in WAYS:
                rounded = graph.quantized(bits, rule, rounding, corrected=options.biases == "corrected")
                answers = reference_logits(rounded.SerializeToString(), judged.batches)
                cells = f"{bits}/8 | {graph.name} | {rule} | {rounding}"
                print(f"| {cells} | {judged.row(expected, answers)} |", flush=True)


def _judged(run: Run, exported: ExportedModel, count: int | None) -> Judged:
    samples, store = read(run), prepare(run, exported.preprocessing)
    frame, rows = store.readable(samples.split(run.config.eval.split))
    taken = np.arange(len(rows)) if count is None else np.linspace(0, len(rows) - 1, count).astype(np.int64)
    groups = group_labels(frame, samples.features(run.config.eval.by))
    batches = list(store.images.batches(np.asarray(rows)[taken], 64))
    return Judged(batches, frame["label"].to_numpy(dtype=np.int64)[taken], np.asarray(groups)[taken])


def _take_biases(model: ModelProto, other: ModelProto) -> None:
    """Give each operator the bias that it has in another copy of the graph."""
    there = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend([tensor for tensor in other.graph.initializer if tensor.name not in there])
    for mine, theirs in zip(model.graph.node, other.graph.node, strict=True):
        del mine.input[:]
        mine.input.extend(theirs.input)


def _fake_quantize(model: ModelProto, name: str, qparams: QParams) -> None:
    """Let every reader of a tensor read its 8-bit levels, in float."""
    from onnx import helper, numpy_helper

    readers = [node for node in model.graph.node if name in node.input]
    parameters = [f"{name}.scale", f"{name}.zero_point"]
    values = (np.array(qparams.scale, np.float32), np.array(qparams.zero_point, np.uint8))
    model.graph.initializer.extend([numpy_helper.from_array(*pair) for pair in zip(values, parameters, strict=True)])
    quantize = helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.levels"])
    dequantize = helper.make_node("DequantizeLinear", [f"{name}.levels", *parameters], [f"{name}.fake"])
    for reader in readers:
        for position, given in enumerate(reader.input):
            if given == name:
                reader.input[position] = f"{name}.fake"
    producers = [place for place, node in enumerate(model.graph.node) if name in node.output]
    place = producers[0] + 1 if producers else 0
    model.graph.node.insert(place, dequantize)
    model.graph.node.insert(place, quantize)


if __name__ == "__main__":
    main()
