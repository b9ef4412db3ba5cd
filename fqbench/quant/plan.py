"""Make a quantization plan from a model, a scheme and a runtime's numerics, by calibration or after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.plan import Layer, QuantizationPlan, QuantizedWeight
from fqbench.contracts.qparams import QParams
from fqbench.contracts.scheme import LOW, Method
from fqbench.errors import PluginError
from fqbench.onnx_graph import copied, origin, producers
from fqbench.quant.activations import activations
from fqbench.quant.graph import cleaned
from fqbench.quant.moments import input_moments
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import TensorRanges, ranges_of
from fqbench.quant.recipe import resolve
from fqbench.quant.rescaling import rescaled
from fqbench.quant.rounding import fit_rows
from fqbench.quant.rules import Rule
from fqbench.quant.weights import Weight, bias_of, correct_biases, levels_of, scales, weights_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.numerics import Numerics
    from fqbench.contracts.qat_parameters import QatParameters
    from fqbench.contracts.scheme import Scheme
    from fqbench.quant.calibration import CalibrationSet

FLOAT_BITS = 32
REDUCED = 7  # bits of 8-bit weights whose products with unsigned bytes add up in pairs within 16 bits
VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Transpose"})


def make_plan(
    model: ExportedModel, scheme: Scheme, numerics: Numerics, calibration: CalibrationSet | None = None
) -> QuantizationPlan:
    """Make the plan of a quantized model.

    Parameters
    ----------
    model : ExportedModel
        The FP32 model; after quantization-aware training, with what it learned.
    scheme : Scheme
        Bits, rules and overrides.
    numerics : Numerics
        What the runtime's kernels take.
    calibration : CalibrationSet, optional
        Needed for static quantization after training; its images are observed where that was not done.

    Raises
    ------
    InputError
        An override matches nothing; an unknown rule, policy or group.
    DataError
        A group has no image, or an activation is not finite.
    PluginError
        What the method needs was not given.
    """
    graph = cleaned(model.path)
    layers = resolve(graph, scheme)  # of the graph that a recipe is written for
    if scheme.method is Method.QAT:
        return _learned(model, graph, layers, numerics)
    if not scheme.needs_calibration:
        weights = _weights(graph, layers)
        return QuantizationPlan(graph, {}, _with_biases(graph, weights), layers)
    if calibration is None:
        raise PluginError(f"{scheme.label} needs a calibration set; give one.")
    record = calibration.record.require(model, calibration) if calibration.record else observe(model, calibration)
    calibration, facts = replace(calibration, record=record), dict[str, Any]()
    if scheme.rescaling == "on":
        moved = rescaled(model, graph, calibration)
        graph, facts = copied(moved.graph), {"rescaled": moved.to_dict()}
        calibration = replace(calibration, record=moved.record)
    plan = _calibrated(graph, layers, scheme, numerics, calibration)
    return replace(plan, facts={**plan.facts, **facts})


def _calibrated(
    graph: ModelProto, layers: tuple[Layer, ...], scheme: Scheme, numerics: Numerics, calibration: CalibrationSet
) -> QuantizationPlan:
    record = calibration.record
    assert record is not None  # noqa: S101  # the caller has observed the images
    settings = _Tensors.of(graph, layers, scheme)
    ranges: dict[tuple[str, str, int], TensorRanges] = {}
    for key in {settings.default, *settings.by_tensor.values()}:
        rule, policy, bits = key
        formats = replace(numerics.activations, bits=min(bits, 8))
        ranges[key] = ranges_of(record, Rule.parse(rule), Policy.parse(policy), formats)
    main = ranges[settings.default]
    found = {}
    for name in main.by_name:
        key = settings.by_tensor.get(main.aliases.get(name, name), settings.default)
        if key[2] == FLOAT_BITS:
            continue
        low, high = ranges[key].by_name[name]
        found[name] = QParams.of(low, high, key[2], symmetric=numerics.activations.symmetric)
    weights = _weights(graph, layers, reduced=scheme.reduce_range, memory=record.memory)
    if scheme.rounding != "nearest" and scheme.has_low_bits:
        weights |= _rounded_from_data(graph, weights, calibration, main.image_weights)
    corrected = 0
    if scheme.bias_correction == "on":
        rounded = {name: one.rows * one.scale[:, None] for name, one in weights.items()}
        corrected = correct_biases(graph, main, rounded)
    facts = {"calibration": main.details(), "corrected_biases": corrected}
    return QuantizationPlan(graph, found, _with_biases(graph, weights), layers, calibration=calibration, facts=facts)


def _learned(
    model: ExportedModel, graph: ModelProto, layers: tuple[Layer, ...], numerics: Numerics
) -> QuantizationPlan:
    learned = model.learned
    if learned is None:
        raise PluginError(f"{model.name} was not trained with quantization; use `fqbench quantize --method qat`.")
    if numerics.activations.symmetric and not learned.symmetric:
        raise PluginError(f"{model.name} was not trained with signed activations; use `fqbench quantize --method qat`.")
    found = dict(learned.activations)
    for alias, name in activations(graph).aliases.items():
        if name in found:
            found.setdefault(alias, found[name])
    trained = tuple(
        replace(layer, quantize=False) if layer.weight and layer.path not in learned.weights else layer
        for layer in layers
    )
    weights = _weights(graph, trained, learned)
    return QuantizationPlan(graph, found, _with_biases(graph, weights), trained, extra_sites=learned.others)


def _weights(
    graph: ModelProto,
    layers: tuple[Layer, ...],
    learned: QatParameters | None = None,
    *,
    reduced: bool = False,
    memory: dict[object, Any] | None = None,
) -> dict[str, QuantizedWeight]:
    """Round weights to nearest; each is kept in the record's memory, where there is one, for other schemes."""
    by_name = {layer.weight: layer for layer in layers if layer.weight}
    found = {}
    for weight in weights_of(graph):
        layer = by_name[weight.name]
        if layer.is_float:
            continue
        bits = layer.bits if learned is None else learned.bits
        given = None if learned is None else learned.weights[weight.path]
        used = REDUCED if reduced and bits == LOW else bits
        key = ("weight", weight.name, used, layer.weight_rule)
        known = {} if memory is None else memory
        if key not in known:
            known[key] = _quantized(weight, used, layer.weight_rule, given)
        found[weight.name] = replace(known[key], bits=bits)
    return found


def _rounded_from_data(
    graph: ModelProto,
    weights: Mapping[str, QuantizedWeight],
    calibration: CalibrationSet,
    image_weights: Mapping[str, float],
) -> dict[str, QuantizedWeight]:
    """Round weights of fewer than 8 bits by their layers' inputs; each is kept with the record once it is rounded."""
    low = {name: weight for name, weight in weights.items() if weight.bits < LOW}
    floats = {weight.name: weight for weight in weights_of(graph)}
    assert calibration.record is not None  # noqa: S101  # the images were observed before
    memory = calibration.record.memory
    keys = {name: ("rounding", name, one.bits, one.scale.tobytes(), str(image_weights)) for name, one in low.items()}
    known = {name: memory[key] for name, key in keys.items() if key in memory}
    new = [name for name in low if name not in known]
    for moments in input_moments(graph, calibration, weights=new) if new else ():
        one, weight = low[moments.weight], floats[moments.weight]
        levels, scale = fit_rows(weight.rows, one.scale, one.bits, moments.weighted(image_weights))
        known[moments.weight] = replace(one, levels=_in_shape(levels, weight), scale=scale)
        memory[keys[moments.weight]] = known[moments.weight]
    return known  # a weight that no moments are known of, as of a convolution over time, stays rounded to nearest


def _in_shape(levels: NDArray[np.int8], weight: Weight) -> NDArray[np.int8]:
    moved = np.moveaxis(weight.values, weight.axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(levels.reshape(moved), 0, weight.axis))


def _quantized(weight: Weight, bits: int, rule: str, given: NDArray[np.float32] | None) -> QuantizedWeight:
    scale = scales(weight.rows, bits, rule) if given is None else given
    levels = _in_shape(levels_of(weight.rows, scale, bits), weight)
    return QuantizedWeight(weight.name, weight.path, weight.axis, bits, levels, scale)


def _with_biases(graph: ModelProto, weights: Mapping[str, QuantizedWeight]) -> dict[str, QuantizedWeight]:
    biases = {weight.name: bias_of(weight.node, graph) for weight in weights_of(graph)}
    return {name: replace(weight, bias=biases[name]) for name, weight in weights.items()}


@dataclass(frozen=True)
class _Tensors:
    """Range rule, policy and bits of activations: those of the layer that reads the tensor, else the scheme's own."""

    default: tuple[str, str, int]
    by_tensor: Mapping[str, tuple[str, str, int]]

    @classmethod
    def of(cls, graph: Any, layers: tuple[Layer, ...], scheme: Scheme) -> _Tensors:
        default = (scheme.range_rule, scheme.calib_policy, scheme.act_bits)
        settings = {layer.node: (layer.range_rule, layer.calib_policy, layer.act_bits) for layer in layers}
        made_by = producers(graph.graph)
        found: dict[str, tuple[str, str, int]] = {}
        for node in graph.graph.node:
            key = settings[node.name]
            if key == default:
                continue
            for name in node.input[:2]:
                found.setdefault(origin(name, made_by, VIEWS), key)
        return cls(default, found)
