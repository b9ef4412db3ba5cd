"""Which activation of an FX graph is which tensor of the exported one: that with the same values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from fqbench.quant.activations import activations
from fqbench.quant.graph import cleaned
from fqbench.reference_executor import reference_session

from .fake_quantize import ActivationFakeQuantize
from .fx import PreparedGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

CLOSE = 1e-3  # of the largest magnitude: two orders of float sums differ by less, two tensors by more


def match(prepared: PreparedGraph, model: Path, images: NDArray[np.float32]) -> dict[str, tuple[str, ...]]:
    """Return, for each quantized activation of an FX graph, the tensors of the exported graph that hold the same.

    Names tell nothing: FX counts its observers, and the exporter its operators. So both graphs are run in float on the
    same images, and sorted values are compared, which no reshaping changes. A range that holds for one holds for all
    tensors with these values.

    Parameters
    ----------
    prepared : PreparedGraph
        The FX graph, in evaluation mode.
    model : Path
        The same network as ONNX.
    images : ndarray of float32, shape (n, 3, H, W)
        A few images.

    Returns
    -------
    dict
        Names of nodes to names of tensors of the cleaned graph (`fqbench.quant.graph.clean`), best first; without those
        nodes that have no counterpart.
    """
    sites = _site_values(prepared, images)
    tensors = _tensor_values(cleaned(model), images)
    by_size: dict[int, list[str]] = {}
    for name, values in tensors.items():
        by_size.setdefault(values.size, []).append(name)
    found: dict[str, tuple[str, ...]] = {}
    for site, values in sites.items():
        largest = float(np.abs(values[[0, -1]]).max()) or 1.0
        distances = {
            name: float(np.abs(tensors[name] - values).max()) / largest for name in by_size.get(values.size, [])
        }
        close = sorted((distance, name) for name, distance in distances.items() if distance <= CLOSE)
        if close:
            found[site] = tuple(name for _distance, name in close)
    return found


def _site_values(prepared: PreparedGraph, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run the FX graph without any rounding, and return what comes to each site, sorted."""
    prepared.observe(False)
    prepared.round(False)
    watcher = _Watcher(prepared.module)
    with torch.inference_mode():
        watcher.run(torch.from_numpy(images))
    prepared.round(True)
    return watcher.seen


class _Watcher(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, NDArray[np.float32]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        called = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(called, ActivationFakeQuantize) and isinstance(result, torch.Tensor):
            values = result if called.bound is None else result.clamp(max=called.bound)
            self.seen[n.name] = np.sort(values.float().numpy(), axis=None)
            return values
        return result


def _tensor_values(model: ModelProto, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run the exported graph with every activation that a runtime may quantize in sight; return these, sorted."""
    import onnx

    found = activations(model)
    given = model.graph.input[0].name
    wanted = [name for name in (*(one.name for one in found.observed), *found.aliases) if name != given]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in wanted if name not in known])
    session = reference_session(model.SerializeToString())
    values = dict(zip(wanted, session.run(wanted, {given: images}), strict=True)) | {given: images}
    return {name: np.sort(value, axis=None) for name, value in values.items()}
