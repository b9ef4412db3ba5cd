"""What each part of the observer costs beside FP32 inference, and what other operators for the same would cost.

Usage: python benchmarks/calibration_parts.py [--models resnet50,mobilenet_v2] [--batch 8] [--rounds 9]

The models are those of `benchmarks/calibration.py`. All variants take turns in one process; a figure is the median of
the ratios to FP32 inference of the same round, in CPU time. One thread, so that folding, which runs beside the next
inference where a core is free, is not hidden in the sum.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from calibration import MODELS, SIZE, _export

from fqbench.machine import this_machine
from fqbench.quant import graph
from fqbench.quant.activations import FLOAT, Activation, activations
from fqbench.quant.histogram import Histograms
from fqbench.quant.layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

GROUPS = 8


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.cpu}, {', '.join(machine.features)}; load {os.getloadavg()[0]:.1f}")
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory(prefix="fqbench-parts-") as folder:
            path = Path(folder) / f"{name}.onnx"
            _export(MODELS[name], path)
            _table(name, path, options)


def _table(name: str, path: Path, options: argparse.Namespace) -> None:
    start = time.perf_counter()
    clean = graph.cleaned(path)
    once = time.perf_counter() - start
    observed = activations(clean).observed
    parts = {
        "FP32": (),
        "+ maxima": ("maxima",),
        "+ maxima, minima": ("maxima", "negative_minima"),
        "+ maxima, minima, sample": ("maxima", "negative_minima", "sample"),
    }
    works = {label: _work(_with(clean, observed, kinds), options) for label, kinds in parts.items()}
    works["ReduceMax and ReduceMin instead"] = _work(_reduced(clean, observed), options)
    works["sample by Slice, no extremes"] = _work(_sliced(clean, observed), options)
    works["folding"] = _folding(clean, observed, options.batch)
    rng = np.random.default_rng(0)
    rounds = []
    for _ in range(options.rounds + 1):
        order = rng.permutation(list(works))
        rounds.append({label: _seconds(works[label]) for label in order})
    rounds = rounds[1:]
    alone = statistics.median(one["FP32"] for one in rounds)
    signed = sum(not activation.non_negative for activation in observed)
    print(f"\n{name}: {len(observed)} activations, {signed} of them signed; batch {options.batch}, one thread")
    print(f"FP32 {1e3 * alone / options.batch:.1f} ms of CPU an image; cleaning the graph {once:.1f} s, once a record")
    for label in works:
        print(f"  {label:32} {statistics.median(one[label] / one['FP32'] for one in rounds):5.2f}x")


def _with(clean: ModelProto, observed: tuple[Activation, ...], kinds: tuple[str, ...]) -> ModelProto:
    """Return the augmented graph with some kinds of outputs, and no nodes that lead to the others alone."""
    import onnx
    from onnx.utils import Extractor

    model = _copy(clean)
    logits = [output.name for output in model.graph.output]
    names = graph.augment(model, observed)
    wanted = [name for kind in kinds for name in getattr(names, kind)]
    with_types = onnx.shape_inference.infer_shapes(model)
    return Extractor(with_types).extract_model([_input(clean)], [*logits, *wanted])


def _reduced(clean: ModelProto, observed: tuple[Activation, ...]) -> ModelProto:
    """Extremes of the whole of each activation, by the operators that are made for it."""
    nodes = []
    for activation in reversed(observed):
        nodes.append(("ReduceMax", activation.name, f"{activation.name}.most"))
        if not activation.non_negative:
            nodes.append(("ReduceMin", activation.name, f"{activation.name}.least"))
    model = _copy(clean)
    for operator, source, target in nodes:
        rank = len(next(a for a in observed if a.name == source).shape)
        axes = _constant(model, f"axes.{rank}", list(range(1, rank + 1)))
        _add(model, operator, [source, axes], target, keepdims=0)
    return model


def _sliced(clean: ModelProto, observed: tuple[Activation, ...]) -> ModelProto:
    """Return every so many-th row and column, of maps, without the MaxPool that leaves pixels out."""
    model = _copy(clean)
    for activation in reversed(observed):
        if activation.is_map and activation.pixels > 1:
            bounds = [_constant(model, f"{key}.2", [key, key]) for key in (0, 2**31 - 1)]
            axes, steps = _constant(model, "axes", [2, 3]), _constant(model, "steps", [activation.pixels] * 2)
            _add(model, "Slice", [activation.name, *bounds, axes, steps], f"{activation.name}.slice")
    return model


def _folding(clean: ModelProto, observed: tuple[Activation, ...], batch: int) -> Callable[[], Any]:
    """Return the work of folding one batch of a single group; its values come from a batch of the model."""
    model = _copy(clean)
    names = graph.augment(model, observed)
    seen = names.seen(_session(model).run(names.names, {_input(clean): _images(batch)}))
    histograms, codes = Histograms(Layout.of(observed), GROUPS), np.zeros(batch, dtype=np.int64)
    return lambda: histograms.fold(seen, codes)


def _work(model: ModelProto, options: argparse.Namespace) -> Callable[[], Any]:
    session, images = _session(model), _images(options.batch)
    name = _input(model)
    return lambda: session.run(None, {name: images})


def _session(model: ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _images(batch: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)


def _input(model: ModelProto) -> str:
    return str(model.graph.input[0].name)


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _add(model: ModelProto, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
    from onnx import helper

    model.graph.node.append(helper.make_node(operator, inputs, [output], output, **attributes))
    model.graph.output.append(helper.make_tensor_value_info(output, FLOAT, None))


def _constant(model: ModelProto, prefix: str, values: list[int]) -> str:
    from onnx import numpy_helper

    name = f"{prefix}.{'.'.join(map(str, values))}"
    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    return name


def _seconds(work: Callable[[], Any]) -> float:
    """CPU time, which other processes on the machine change less than the clock on the wall."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
