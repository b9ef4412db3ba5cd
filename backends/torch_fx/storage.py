"""The files of an artifact: a stored in JSON and tensors as safetensors; nothing in them is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fqbench.contracts.plan import QuantizedWeight
from fqbench.contracts.qparams import QParams
from fqbench.errors import DataError, InputError, UnavailableError
from fqbench.models import zoo
from fqbench.quant.packing import pack_bits, unpack_bits

from .fake_quantize import ActivationFakeQuantize
from .fx import PreparedGraph, prepare, prepare_dynamic
from .weights import put_weights

FORMAT = 2  # 2: bits by layer, layers in float
DESCRIPTION, TENSORS = "model.json", "weights.safetensors"
LEVELS, SCALE, BIAS, REST = "levels/", "scale/", "bias/", "rest/"


@dataclass(frozen=True)
class StoredNetwork:
    """How the network of an artifact is built again.

    Attributes
    ----------
    architecture : str
        As `fqbench.models.zoo.find` takes it.
    classes : int
        Number of logits.
    size : tuple of int
        Height and width of an image.
    bits, act_bits : int
        Of weights and activations; 32 for float ones.
    activations : dict
        Scale, zero point and bits by node of the FX graph.
    skipped : dict
        Modules that FX could not look into, and why.
    code : str
        Of the user's own architecture, the fingerprint of its source.
    weight_bits : dict
        Bits of the weights of modules that differ from ``bits``.
    floats : tuple of str
        Modules that stay in float.
    """

    architecture: str
    classes: int
    size: tuple[int, int]
    bits: int = 32
    act_bits: int = 32
    activations: Mapping[str, tuple[float, int, int]] | None = None
    skipped: Mapping[str, str] | None = None
    code: str = ""
    weight_bits: Mapping[str, int] | None = None
    floats: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """Build the network, with weights drawn at random.

        Raises
        ------
        UnavailableError
            The code of the user's own architecture is not here.
        DataError
            It has changed since the artifact was made.
        """
        try:
            architecture = zoo.find(self.architecture)
        except InputError as error:
            if not self.code:
                raise
            raise UnavailableError(
                f"the artifact needs the code {self.architecture}, which cannot be imported; run fqbench in "
                "the folder that holds it, or install its package."
            ) from error
        if self.code and architecture.identity.get("code") != self.code:
            raise DataError(
                f"the code {self.architecture} has changed since the artifact was made; restore it, or quantize again."
            )
        return zoo.build(architecture, classes=self.classes, size=self.size).eval()

    def example(self) -> Tensor:
        """Return a batch of images for the tracing."""
        return torch.zeros(2, 3, *self.size)

    def prepared_from(self, network: nn.Module) -> PreparedGraph:
        """Put fake quantization of its activations into a network; with float ones, mark its linear layers."""
        if self.act_bits == 32:
            return prepare_dynamic(network, self.example())
        return prepare(network, self.example(), act_bits=self.act_bits, floats=self.floats)


def write(stored: StoredNetwork, prepared: PreparedGraph, weights: Mapping[str, QuantizedWeight], out: Path) -> None:
    """Write a quantized network."""
    tensors: dict[str, Tensor] = {}
    for path, weight in weights.items():
        tensors[LEVELS + path] = torch.from_numpy(pack_bits(weight.levels, weight.bits))
        tensors[SCALE + path] = torch.from_numpy(weight.scale)
        bias = getattr(prepared.weighted[path], "bias", None)
        if isinstance(bias, Tensor):
            tensors[BIAS + path] = bias.detach().contiguous().clone()
    for name, value in _rest(prepared).items():
        tensors[REST + name] = value.detach().contiguous().clone()
    save_file(tensors, out / TENSORS)
    write_stored(stored, out)


def write_stored(stored: StoredNetwork, out: Path) -> None:
    """Write the stored alone."""
    (out / DESCRIPTION).write_text(json.dumps({"format": FORMAT, **asdict(stored)}, indent=1) + "\n", encoding="utf-8")


def read_stored(folder: Path) -> StoredNetwork:
    """Read the stored of an artifact.

    Raises
    ------
    DataError
        It is damaged, or of another version.
    """
    try:
        values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = values.pop("format")
        if version != FORMAT:
            raise DataError(f"the artifact {folder} has format {version}, not {FORMAT}; quantize again.")
        return StoredNetwork(**values | {"size": tuple(values["size"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the artifact {folder} is damaged ({error}); delete it and quantize again.") from error


def read(stored: StoredNetwork, folder: Path) -> tuple[PreparedGraph, dict[str, Tensor]]:
    """Build the network of an artifact, with its weights and ranges; return it with the scales of its weights.

    Raises
    ------
    DataError
        The tensors do not fit the network that the stored describes.
    """
    prepared = stored.prepared_from(stored.network())
    tensors = read_tensors(folder)
    try:
        widths = stored.weight_bits or {}
        weights = {
            path: _weight(path, module, tensors, widths.get(path, stored.bits))
            for path, module in prepared.weighted.items()
        }
        for site, quantizer in prepared.sites.items():
            quantizer.set_grid(QParams(*(stored.activations or {})[site]))
        for name, value in _rest(prepared).items():
            value.data.copy_(tensors[REST + name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise DataError(
            f"the artifact {folder} does not fit {stored.architecture} as this torch and timm build it ({error}); "
            "quantize again with these versions."
        ) from error
    return prepared, put_weights(prepared, weights)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of an artifact.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(folder / TENSORS)
    except Exception as error:
        raise DataError(f"{folder / TENSORS} is damaged ({error}); delete the artifact and quantize again.") from error
    return tensors


def _weight(path: str, module: nn.Module, tensors: Mapping[str, Tensor], bits: int) -> QuantizedWeight:
    shape: tuple[int, ...] = tuple(module.weight.shape)  # type: ignore[arg-type]
    bias = tensors.get(BIAS + path)
    levels: Any = unpack_bits(tensors[LEVELS + path].numpy(), bits, shape)
    scale: Any = tensors[SCALE + path].numpy().astype(np.float32)
    return QuantizedWeight(path, path, 0, bits, levels, scale, None if bias is None else bias.numpy())


def _rest(prepared: PreparedGraph) -> dict[str, Tensor]:
    """Everything in float that a prepared network holds, except quantized weights, their biases and ranges."""
    own = {
        f"{name}.{part}"
        for name, module in prepared.module.named_modules(remove_duplicate=False)
        if isinstance(module, ActivationFakeQuantize)
        for part in module.state_dict()
    }
    inner = {id(module) for module in prepared.weighted.values()}
    own |= {
        f"{name}.{part}"
        for name, module in prepared.module.named_modules(remove_duplicate=False)
        if id(module) in inner
        for part in ("weight", "bias")
    }
    state = {name: value for name, value in prepared.module.state_dict(keep_vars=True).items() if name not in own}
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
