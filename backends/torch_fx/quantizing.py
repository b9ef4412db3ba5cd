"""Make an FX artifact from an exported model and its checkpoint, and load a network from the artifact's files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, PluginError, SchemeNotSupported
from fqbench.models import zoo
from fqbench.models.train import load_checkpoint, save_checkpoint

from . import storage
from .fx import PreparedGraph, convert, engine
from .matching import match
from .storage import StoredNetwork
from .weights import weights_for

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.plan import QuantizationPlan, QuantizedWeight

LOOKED_AT = 2  # images on which the two graphs are compared
BATCH = 16


def network_of(model: ExportedModel) -> nn.Module:
    """Build the network that a model was exported from, with its weights.

    Raises
    ------
    InputError
        It came as ONNX.
    """
    if not model.architecture or model.checkpoint is None:
        raise InputError(
            f"{model.name} came as ONNX or as a program of torch.export, but this backend quantizes torch networks; "
            "use --backend ort, or name the network (`fqbench models`, or --model MODULE:BUILD for your own)."
        )
    return load_checkpoint(stored_of(model).network(), model.checkpoint)


def stored_of(model: ExportedModel, **quantized: Any) -> StoredNetwork:
    """Return how the network of a model is built."""
    found = zoo.find(model.architecture)
    size = model.preprocessing.size
    return StoredNetwork(found.reference, len(model.classes), size, code=found.identity.get("code", ""), **quantized)


def needed_code(model: ExportedModel) -> dict[str, Any]:
    """Return which code of the user an artifact needs when it is loaded, for its manifest; empty for known models."""
    stored = stored_of(model)
    return {"code": {"reference": stored.architecture, "sha256": stored.code}} if stored.code else {}


def copy_float(model: ExportedModel, out: Path) -> None:
    """Write the FP32 network."""
    save_checkpoint(network_of(model), out / storage.TENSORS)
    storage.write_stored(stored_of(model), out)


def quantize_static(model: ExportedModel, scheme: Scheme, plan: QuantizationPlan, out: Path) -> dict[str, Any]:
    """Quantize by a plan; return what the manifest should know.

    What FX quantizes and the exported graph has no tensor for gets the extremes of all calibration images, or, after
    training, what the trainer learned for it.
    """
    network, floats = network_of(model), _floats(scheme, plan)
    prepared = stored_of(model, act_bits=scheme.act_bits, floats=floats).prepared_from(network)
    chosen = plan.calibration
    images = _noise(model) if chosen is None else chosen.images.batch(chosen.rows[:LOOKED_AT])
    own = set_ranges(prepared, match(prepared, model.path, images), plan, scheme)
    facts = _write(model, scheme, prepared, weights_for(prepared, plan), out, floats=floats)
    return {**plan.facts, "own_ranges": own, **facts}


def quantize_dynamic(model: ExportedModel, scheme: Scheme, plan: QuantizationPlan, out: Path) -> dict[str, Any]:
    """Quantize linear layers, whose inputs are quantized as they come."""
    network = network_of(model)
    prepared = stored_of(model).prepared_from(network)
    weights = weights_for(prepared, plan)
    facts = _write(model, scheme.model_copy(update={"act_bits": 32}), prepared, weights, out)
    return {"linear_layers": len(weights), **facts}


def load(folder: Path, scheme: Scheme, *, native: bool) -> nn.Module:
    """Return the network of an artifact: eager FP32, converted to integer kernels, or with fake quantization."""
    stored = storage.read_stored(folder)
    if scheme.is_float:
        network = load_checkpoint(stored.network(), folder / storage.TENSORS)
        return network.to(memory_format=torch.channels_last)
    prepared, scales = storage.read(stored, folder)
    if native:
        return convert(prepared, scales)
    prepared.observe(False)
    prepared.round(True)
    return prepared.module


def load_written_out(folder: Path, scheme: Scheme) -> nn.Module:
    """Return the network of an 8-bit artifact with its quantization in the operators that Inductor reads."""
    from .lowering import written_out

    prepared, scales = storage.read(storage.read_stored(folder), folder)
    return written_out(prepared, scales, learned=scheme.method is Method.QAT)


def set_ranges(
    prepared: PreparedGraph, matched: Mapping[str, tuple[str, ...]], plan: QuantizationPlan, scheme: Scheme
) -> list[str]:
    """Set scale and zero point of every activation; return the sites whose range was looked for on the images."""
    found: dict[int, list[QParams]] = {}
    for site, quantizer in prepared.sites.items():
        names = [name for name in matched.get(site, ()) if name in plan.activations]
        given = plan.activations[names[0]] if names else plan.extra_sites.get(site)
        if given is not None:
            found.setdefault(id(quantizer), []).append(given)
    own = []
    prepared.observe(False)
    for site, quantizer in prepared.sites.items():
        if id(quantizer) in found:
            quantizer.set_grid(_shared(found[id(quantizer)], scheme.act_bits, quantizer.symmetric))
        else:
            own.append(site)
            quantizer.enable_observer(True)
    if own:
        _observe(prepared, plan, own)
    return own


def _shared(parts: list[QParams], bits: int, symmetric: bool) -> QParams:
    """One quantizer may serve several tensors: what goes into a concatenation, say."""
    if len(set(parts)) == 1:
        return parts[0]
    return QParams.of(min(one.low for one in parts), max(one.high for one in parts), bits, symmetric=symmetric)


def _observe(prepared: PreparedGraph, plan: QuantizationPlan, sites: list[str]) -> None:
    if plan.calibration is None:
        raise PluginError(f"training gave no scale for {', '.join(sites)}; report it with the model's name.")
    prepared.round(False)
    with torch.inference_mode():
        for images in plan.calibration.batches(BATCH):
            prepared.module(torch.from_numpy(images))


def _floats(scheme: Scheme, plan: QuantizationPlan) -> tuple[str, ...]:
    """Paths of the modules that a recipe leaves in float; what FX cannot be told is refused."""
    for layer in plan.layers:
        if layer.is_float and not layer.weight:
            raise SchemeNotSupported(
                f"PyTorch FX places the quantization of {layer.op} ({layer.node}) itself; let overrides name layers "
                "with weights, or use --backend ort."
            )
        if layer.weight and not layer.is_float and layer.act_bits != scheme.act_bits:
            raise SchemeNotSupported(
                f"PyTorch FX uses the same activation bits in all layers, but the recipe gives {layer.name} "
                f"{layer.act_bits}; leave out act_bits there, or set quantize: false."
            )
    return tuple(layer.path for layer in plan.layers if layer.is_float and layer.weight)


def _write(
    model: ExportedModel,
    scheme: Scheme,
    prepared: PreparedGraph,
    weights: Mapping[str, QuantizedWeight],
    out: Path,
    *,
    floats: tuple[str, ...] = (),
) -> dict[str, Any]:
    sites = prepared.sites
    stored = stored_of(
        model,
        bits=scheme.bits,
        act_bits=scheme.act_bits,
        activations={site: (one.grid.scale, one.grid.zero_point, one.grid.bits) for site, one in sites.items()},
        skipped=prepared.traced.skipped,
        weight_bits={path: weight.bits for path, weight in weights.items() if weight.bits != scheme.bits},
        floats=floats,
    )
    for path, weight in weights.items():
        if weight.bias is not None:
            prepared.weighted[path].bias = nn.Parameter(torch.from_numpy(weight.bias.copy()))
    share, layers = integer_share(prepared, weights, stored.example())
    storage.write(stored, prepared, weights, out)
    return {
        "engine": engine(),
        "not_traced": dict(prepared.traced.skipped),
        "quantized_layers": len(weights),
        "layers": layers,
        "quantized_macs": share,
    }


def integer_share(prepared: PreparedGraph, quantized: Collection[str], example: torch.Tensor) -> tuple[float, int]:
    """Return the share of the layers' multiply-accumulates that is quantized, and the number of layers.

    Parameters
    ----------
    prepared : PreparedGraph
        The network; what was not traced is a module in it, whose layers count, too.
    quantized : collection of str
        Paths of the quantized layers.
    example : Tensor
        Images that it is run on.
    """
    mine = {id(layer) for path, layer in prepared.weighted.items() if path in quantized}
    macs: dict[int, int] = {}

    def count(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        weight: Any = layer.weight
        macs[id(layer)] = macs.get(id(layer), 0) + output.numel() * weight[0].numel()

    layers = [layer for layer in prepared.module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = prepared.module.training
    try:
        with torch.inference_mode():
            prepared.module.eval()(example)
    finally:
        prepared.module.train(was_training)
        for hook in hooks:
            hook.remove()
    total = sum(macs.values())
    return sum(value for key, value in macs.items() if key in mine) / max(1, total), len(macs)


def _noise(model: ExportedModel) -> Any:
    import numpy as np

    shape = (LOOKED_AT, *model.input_shape)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
