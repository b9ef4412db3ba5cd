"""The integers of a plan's weights in the modules of a network: every runtime has the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fqbench.errors import DataError

from .fx import PreparedGraph

if TYPE_CHECKING:
    from fqbench.contracts.plan import QuantizationPlan, QuantizedWeight


def weights_for(prepared: PreparedGraph, plan: QuantizationPlan) -> dict[str, QuantizedWeight]:
    """Return the plan's weights by the path of the module, in the shape of the module's parameter.

    Raises
    ------
    DataError
        A module has no counterpart in the plan: the two are not the same network.
    """
    known = plan.by_path()
    missing = [path for path in prepared.weighted if path not in known]
    if missing:
        raise DataError(f"the exported graph has no weight of {', '.join(missing[:5])}; export the model again.")
    found = {}
    for path, module in prepared.weighted.items():
        shape = tuple(module.weight.shape)  # type: ignore[arg-type]
        found[path] = replace(known[path], axis=0, levels=np.ascontiguousarray(known[path].rows).reshape(shape))
    return found


def put_weights(prepared: PreparedGraph, weights: Mapping[str, QuantizedWeight]) -> dict[str, torch.Tensor]:
    """Give the modules of a prepared network these weights, and return their scales by path."""
    for path, module in prepared.weighted.items():
        weight = weights[path]
        shape = (-1, *(1,) * (weight.levels.ndim - 1))
        values = weight.levels.astype(np.float32) * weight.scale.reshape(shape)
        module.weight = nn.Parameter(torch.from_numpy(values), requires_grad=False)
        if weight.bias is not None:
            module.bias = nn.Parameter(torch.from_numpy(weight.bias.copy()), requires_grad=False)
    return {path: torch.from_numpy(weight.scale.copy()) for path, weight in weights.items()}
