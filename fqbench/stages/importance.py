"""Importance: which layers matter most to which group, and a recipe that keeps these at more bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.plan import Layer
from fqbench.contracts.scheme import Override, Scheme
from fqbench.errors import InputError
from fqbench.models import zoo
from fqbench.models.importance import MEASURES, Importance, Kept, Measure, choose, measure
from fqbench.models.lookup import classifier
from fqbench.models.train import load_checkpoint
from fqbench.quant.graph import cleaned
from fqbench.quant.recipe import resolve
from fqbench.quant.weights import rounded, scales
from fqbench.run import Run
from fqbench.stages.export import export
from fqbench.stages.prepare import prepare
from fqbench.stages.quantize import configured_scheme
from fqbench.stages.read import read
from fqbench.stages.train import labelled
from fqbench.storage import read_arrays, write_arrays
from fqbench.workspace import Derivation, Entry
from fqbench.workspace.kinds import IMPORTANCES, ImportanceFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from fqbench.models.batches import LabelledImages

VALUES = "importance.npz"
FLOAT = 32


@dataclass(frozen=True)
class ImportantLayers:
    """What was measured, which layers are kept for which group, and the recipe that does it.

    Attributes
    ----------
    importance : Importance
        Of every layer that the scheme rounds to fewer bits, for every group.
    by : str
        ``fisher`` or ``gradient``.
    kept : tuple of Kept
        In the order in which they were chosen.
    scheme : Scheme
        The configured scheme, with an override for each of these layers.
    layers : tuple of Layer
        The scheme, resolved.
    """

    importance: Importance
    by: Measure
    kept: tuple[Kept, ...]
    scheme: Scheme
    layers: tuple[Layer, ...]


def important(run: Run, *, keep: int, bits: int, by: str, per_group: int) -> ImportantLayers:
    """Measure on validation images how much rounding each layer costs each group, and keep some at more bits.

    Parameters
    ----------
    run : Run
        The experiment: the scheme of ``quantize``, and the groups of ``eval``.
    keep : int
        How many layers.
    bits : int
        Bits of these, 8; or 32, which leaves them in float.
    by : str
        ``fisher`` or ``gradient``.
    per_group : int
        Most images of a group.

    Raises
    ------
    InputError
        The model came as ONNX, the scheme rounds nothing to fewer bits, or an option is out of its range.
    DataError
        No group has enough images.
    """
    read(run).require_one_label("--importance")
    name = next((one for one in MEASURES if one == by), None)
    if name is None:
        raise InputError(f"--importance {by}: give {' or '.join(MEASURES)}.")
    if bits not in {8, FLOAT}:
        raise InputError(f"--kept-bits {bits}: give 8, or 32 for float.")
    scheme, model = configured_scheme(run), export(run)
    if not model.architecture or model.checkpoint is None:
        raise InputError(
            f"{model.name} came as ONNX or as a program, which has no gradients here; name layers in a recipe "
            "yourself, or train the classifier here (`fqbench train`)."
        )
    layers = resolve(cleaned(model.path), scheme)
    rough = {layer.path: layer for layer in layers if layer.path and not layer.is_float and layer.bits < bits}
    if not rough:
        raise InputError(f"no layer of {scheme.label} has fewer than {bits} bits; give --bits 4, or --kept-bits 32.")
    found = _measured(run, model, rough, per_group)
    kept = choose(found, name, keep)
    changed: dict[str, object] = {"quantize": False} if bits == FLOAT else {"bits": bits}
    if bits == 8 and scheme.act_bits < bits:
        changed["act_bits"] = bits
    overrides = (Override.model_validate({"name": one.layer} | changed) for one in kept)
    better = scheme.model_copy(update={"overrides": (*scheme.overrides, *overrides)})
    return ImportantLayers(found, name, kept, better, resolve(cleaned(model.path), better))


def _measured(run: Run, model: ExportedModel, rough: Mapping[str, Layer], per_group: int) -> Importance:
    store = prepare(run, model.preprocessing)
    features = read(run).features(run.config.eval.by)
    rounding = {path: {"bits": layer.bits, "weight_rule": layer.weight_rule} for path, layer in rough.items()}
    derivation = Derivation(
        kind=IMPORTANCES,
        slug=f"{model.name}-{per_group}-per-group",
        determined_by={
            "model": model.digest,
            "prepared": store.entry.digest,
            "by": list(features),
            "per_group": per_group,
            "rounding": rounding,
        },
        inputs={"model": model.id, "prepared": store.entry.id},
    )

    def build(out: Path) -> ImportanceFacts:
        network = _network(run, model)
        data = _some(labelled(run, store, "val", features), per_group)
        found = measure(network, data, _changes(network, rough), run.reporter)
        write_arrays(out / VALUES, {name: found.values[name] for name in MEASURES})
        images = dict(zip(found.groups, found.images.tolist(), strict=True))
        return ImportanceFacts(layers=found.layers, images=images)

    entry = run.produce(derivation, build, f"measuring which of {len(rough)} layers matter to which group")
    return _opened(entry)


def _opened(entry: Entry[ImportanceFacts]) -> Importance:
    arrays = read_arrays(entry.file(VALUES))
    images = entry.facts.images
    counted = np.array(list(images.values()), dtype=np.int64)
    return Importance(entry.facts.layers, tuple(images), counted, {name: arrays[name] for name in MEASURES})


def _network(run: Run, model: ExportedModel) -> nn.Module:
    assert model.checkpoint is not None  # noqa: S101 - `important` has checked
    architecture = classifier(run, model.architecture)
    network = zoo.build(architecture, classes=len(model.classes), size=model.preprocessing.size)
    return load_checkpoint(network, model.checkpoint)


def _changes(network: nn.Module, rough: Mapping[str, Layer]) -> dict[str, NDArray[np.float32]]:
    """Return what rounding changes in each layer's weight.

    BatchNorm is folded into the graph's weights; that scales an output channel, and with it the change, while the
    gradient is divided by as much: the product is the same.
    """
    modules, changes = dict(network.named_modules()), {}
    for path, layer in rough.items():
        weight = getattr(modules.get(path), "weight", None)
        if weight is None or weight.ndim < 2:
            continue
        values: NDArray[np.float32] = weight.detach().numpy()
        rows = np.ascontiguousarray(values.reshape(len(values), -1))
        near = rounded(rows, scales(rows, layer.bits, layer.weight_rule), layer.bits)
        changes[path] = (near - rows).reshape(values.shape)
    if not changes:
        raise InputError("no layer of the graph belongs to a module of the network; name layers in a recipe yourself.")
    return changes


def _some(data: LabelledImages, per_group: int) -> LabelledImages:
    """Return up to so many images of each group, evenly over the split."""
    chosen = []
    for group in range(len(data.group_names)):
        rows = np.flatnonzero(data.groups == group)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(per_group, len(rows))).astype(np.int64)])
    rows = np.concatenate(chosen)
    return replace(data, rows=data.rows[rows], labels=data.labels[rows], groups=data.groups[rows])
