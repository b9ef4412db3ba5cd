"""Quantization-aware training: fake quantization in a network, its schedule, and what is learned by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fqbench.contracts.qat_parameters import QatParameters
from fqbench.contracts.qparams import QParams
from fqbench.contracts.training import Hooks
from fqbench.errors import PluginError

from .deprecated import freeze_bn_stats, update_bn_stats
from .fake_quantize import ActivationFakeQuantize, WeightFakeQuantize
from .fx import PreparedGraph, prepare_training
from .matching import match
from .quantizing import network_of, stored_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fqbench.config import QatOptions
    from fqbench.contracts.artifacts import ExportedModel
    from fqbench.contracts.scheme import Scheme

MOMENTUM = 0.01  # of the ranges of activations, as torch has it
BATCH = 64


@dataclass(frozen=True)
class FakeQuantizedTraining:
    """A network with fake quantization, to be trained.

    Attributes
    ----------
    prepared : PreparedGraph
        The network.
    names : frozenset of str
        Parameters and buffers of the architecture itself.
    scheme : Scheme
        Bits and weight rule.
    symmetric : bool
        Whether zero points are in the middle.
    options : QatOptions
        The schedule.
    """

    prepared: PreparedGraph
    names: frozenset[str]
    scheme: Scheme
    symmetric: bool
    options: QatOptions

    @classmethod
    def begin(
        cls, model: ExportedModel, scheme: Scheme, *, symmetric: bool, options: QatOptions
    ) -> FakeQuantizedTraining:
        """Load the network of a model and put fake quantization into it."""
        network = network_of(model)
        names = frozenset(network.state_dict())
        prepared = prepare_training(
            network,
            stored_of(model).example(),
            bits=scheme.bits,
            act_bits=scheme.act_bits,
            symmetric=symmetric,
            momentum=MOMENTUM,
        )
        return cls(prepared, names, scheme, symmetric, options)

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self.prepared.module

    @property
    def hooks(self) -> Hooks:
        """Hold BatchNorm and ranges from some epoch on, and ranges always while validating."""
        epochs = self.options.epochs
        last_free = {
            "batchnorm": math.ceil(epochs * self.options.freeze_batchnorm),
            "ranges": math.ceil(epochs * self.options.freeze_ranges),
        }

        def before(epoch: int, network: nn.Module) -> None:
            held = epoch >= last_free["batchnorm"]
            network.apply(freeze_bn_stats if held else update_bn_stats)
            free = epoch < last_free["ranges"] or epoch == 0  # there are no ranges before the first batch
            if free:
                self._choose_shares()
            self.prepared.observe(free)

        return Hooks(before, lambda _epoch, _network: self.prepared.observe(False))

    def save_weights(self, path: Path) -> None:
        """Write the weights under the names of the architecture itself.

        Raises
        ------
        PluginError
            Not all of them could be found again.
        """
        from safetensors.torch import save_file

        found = self._plain()
        if set(found) != self.names:
            differing = sorted(self.names ^ set(found))[:5]
            raise PluginError(f"training changed the tensors {', '.join(differing)}; report it with the model's name.")
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in sorted(found.items())}, path)

    def answers(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, rounding included."""
        self.prepared.observe(False)
        self.prepared.round(True)
        self.network.eval()
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.network(torch.from_numpy(images)).float().numpy()
        return logits

    def learned(self, model: Path, images: NDArray[np.float32]) -> QatParameters:
        """Return the learned scales, for the tensors of the exported graph of the trained weights."""
        self.network.eval()
        matched = match(self.prepared, model, images)
        activations: dict[str, QParams] = {}
        others: dict[str, QParams] = {}
        for site, quantizer in self.prepared.sites.items():
            names = matched.get(site, ())
            if not names:
                others[site] = quantizer.grid
            for name in names:
                activations.setdefault(name, quantizer.grid)
        scales = {
            path: module.weight_fake_quant.scale.detach().numpy().copy()  # type: ignore[union-attr, operator]
            for path, module in self.prepared.weighted.items()
        }
        scheme = self.scheme
        return QatParameters(scheme.bits, scheme.act_bits, self.symmetric, activations, scales, others)

    def _choose_shares(self) -> None:
        for module in self.prepared.weighted.values():
            quantizer = module.weight_fake_quant
            if isinstance(quantizer, WeightFakeQuantize):
                quantizer.choose_shares(_folded(module), self.scheme.weight_rule)

    def _plain(self) -> Mapping[str, Tensor]:
        """Parameters and buffers by the name that they have in the architecture."""
        module, traced = self.prepared.module, self.prepared.traced
        quantizers = {
            name
            for name, part in module.named_modules(remove_duplicate=False)
            if isinstance(part, (ActivationFakeQuantize, WeightFakeQuantize))
        }
        found = {}
        for name, value in module.state_dict().items():
            owner = name.rpartition(".")[0]
            if owner in quantizers:
                continue
            if owner.endswith(".bn") and owner.removesuffix(".bn") in traced.norms:
                name = f"{traced.norms[owner.removesuffix('.bn')]}.{name.rpartition('.')[2]}"  # noqa: PLW2901
            found[traced.original_name(name)] = value
        return found


def _folded(module: nn.Module) -> Tensor:
    """The weight as it is rounded: with the BatchNorm behind it folded in."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    norm = getattr(module, "bn", None)
    if norm is None:
        return weight.detach()
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded: Tensor = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    return folded.detach()
