"""From an exported model and its checkpoint to an FX artifact, and from its files back to a network that answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import Method, Scheme
from fqbench.errors import InputError, PluginError
from fqbench.models import zoo
from fqbench.models.train import load_checkpoint, save_checkpoint
from fqbench.quant.graph import cleaned
from fqbench.quant.ranges import TensorRanges, tensor_ranges

from . import storage
from .fx import Prepared, convert, engine
from .matching import match
from .storage import Recipe
from .weights import quantized_weights

if TYPE_CHECKING:
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.quant.calibration import CalibrationSet

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
            f"{model.name} came as ONNX, and PyTorch quantizes a network of its own; train it here with "
            "`fqbench train --model NAME`, or use --backend ort."
        )
    return load_checkpoint(recipe_of(model).network(), model.checkpoint)


def recipe_of(model: ExportedModel, **quantized: Any) -> Recipe:
    """Return how the network of a model is built."""
    found = zoo.find(model.architecture)
    size = model.preprocessing.size
    return Recipe(found.reference, len(model.classes), size, code=found.identity.get("code", ""), **quantized)


def needed_code(model: ExportedModel) -> dict[str, Any]:
    """Return which code of the user an artifact needs when it is loaded, for its manifest; empty for known models."""
    recipe = recipe_of(model)
    return {"code": {"reference": recipe.architecture, "sha256": recipe.code}} if recipe.code else {}


def copy_float(model: ExportedModel, out: Path) -> None:
    """Write the FP32 network."""
    save_checkpoint(network_of(model), out / storage.TENSORS)
    storage.write_recipe(recipe_of(model), out)


def quantize_static(model: ExportedModel, scheme: Scheme, calibration: CalibrationSet, out: Path) -> dict[str, Any]:
    """Quantize with the ranges of the calibration record; return what the manifest should know.

    What FX quantizes and the exported graph has no tensor for gets the extremes of all calibration images.
    """
    network = network_of(model)
    prepared = recipe_of(model, act_bits=scheme.act_bits).prepared_from(network)
    ranges = tensor_ranges(model, scheme, calibration)
    images = calibration.images.batch(calibration.rows[:LOOKED_AT])
    own = set_ranges(prepared, match(prepared, model.path, images), ranges, calibration, scheme)
    weights = quantized_weights(cleaned(model.path), prepared, scheme, ranges=ranges)
    facts = _write(model, scheme, prepared, weights, out)
    return {"calibration": ranges.details(), "own_ranges": own, **facts}


def quantize_learned(model: ExportedModel, scheme: Scheme, out: Path) -> dict[str, Any]:
    """Quantize with the scales that training learnt."""
    learned = model.learned
    if learned is None:
        raise PluginError(f"{model.name} was not trained with quantization; use `fqbench quantize --method qat`.")
    network = network_of(model)
    prepared = recipe_of(model, act_bits=scheme.act_bits).prepared_from(network)
    images = _noise(model)
    matched = match(prepared, model.path, images)
    for site, quantizer in prepared.sites.items():
        names = [name for name in matched.get(site, ()) if name in learned.activations]
        grid = learned.activations[names[0]] if names else learned.others.get(site)
        if grid is not None:
            quantizer.set_grid(grid)
    missing = [site for site, quantizer in prepared.sites.items() if not quantizer.seen]
    if missing:
        raise PluginError(f"training gave no scale for {', '.join(missing)}; report it with the model's name.")
    weights = quantized_weights(cleaned(model.path), prepared, scheme, learned=learned.weights)
    return _write(model, scheme, prepared, weights, out)


def quantize_dynamic(model: ExportedModel, scheme: Scheme, out: Path) -> dict[str, Any]:
    """Quantize linear layers, whose inputs are quantized as they come."""
    network = network_of(model)
    prepared = recipe_of(model).prepared_from(network)
    weights = quantized_weights(cleaned(model.path), prepared, scheme)
    facts = _write(model, scheme.model_copy(update={"act_bits": 32}), prepared, weights, out)
    return {"linear_layers": len(weights), **facts}


def load(folder: Path, scheme: Scheme, *, native: bool) -> nn.Module:
    """Return the network of an artifact: eager FP32, converted to integer kernels, or with fake quantization."""
    recipe = storage.read_recipe(folder)
    if scheme.method is Method.NONE:
        network = load_checkpoint(recipe.network(), folder / storage.TENSORS)
        return network.to(memory_format=torch.channels_last)
    prepared, scales = storage.read(recipe, folder)
    if native:
        return convert(prepared, scales)
    prepared.observe(False)
    prepared.round(True)
    return prepared.module


def load_written_out(folder: Path, scheme: Scheme) -> nn.Module:
    """Return the network of an 8-bit artifact with its quantization in the operators that Inductor reads."""
    from .lowering import written_out

    prepared, scales = storage.read(storage.read_recipe(folder), folder)
    return written_out(prepared, scales, learned=scheme.method is Method.QAT)


def set_ranges(
    prepared: Prepared,
    matched: Mapping[str, tuple[str, ...]],
    ranges: TensorRanges,
    calibration: CalibrationSet,
    scheme: Scheme,
) -> list[str]:
    """Set the grid of every activation; return the sites whose range had to be looked for on the images."""
    known = ranges.by_name
    ends: dict[int, list[tuple[float, float]]] = {}
    for site, quantizer in prepared.sites.items():
        names = [name for name in matched.get(site, ()) if name in known]
        if names:
            ends.setdefault(id(quantizer), []).append(known[names[0]])
    own = []
    prepared.observe(False)
    for site, quantizer in prepared.sites.items():
        if id(quantizer) in ends:  # one quantizer may serve several tensors: what goes into a concatenation, say
            low = min(low for low, _high in ends[id(quantizer)])
            high = max(high for _low, high in ends[id(quantizer)])
            quantizer.set_grid(QParams.of(low, high, scheme.act_bits, symmetric=quantizer.symmetric))
        else:
            own.append(site)
            quantizer.enable_observer(True)
    if own:
        prepared.round(False)
        with torch.inference_mode():
            for images in calibration.batches(BATCH):
                prepared.module(torch.from_numpy(images))
    return own


def _write(
    model: ExportedModel, scheme: Scheme, prepared: Prepared, weights: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    sites = prepared.sites
    activations = {site: (one.grid.scale, one.grid.zero_point, one.grid.bits) for site, one in sites.items()}
    recipe = recipe_of(
        model,
        bits=scheme.bits,
        act_bits=scheme.act_bits,
        activations=activations,
        skipped=prepared.traced.skipped,
    )
    for path, weight in weights.items():
        if weight.bias is not None:
            prepared.weighted[path].bias = nn.Parameter(torch.from_numpy(weight.bias.copy()))
    storage.write(recipe, prepared, weights, out)
    return {"engine": engine(), "not_traced": dict(prepared.traced.skipped), "quantized_layers": len(weights)}


def _noise(model: ExportedModel) -> Any:
    import numpy as np

    shape = (LOOKED_AT, *model.input_shape)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
