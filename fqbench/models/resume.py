"""The state of a training run after an epoch, in one file without code, so that an interrupted run resumes exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.optional import require

if TYPE_CHECKING:
    import torch
    from torch import nn

STATE = "state.safetensors"
FACTS = "facts"


@dataclass(frozen=True)
class SavedTraining:
    """What a run needs to resume.

    Attributes
    ----------
    best : mapping of str to Tensor
        Weights of the best epoch so far.
    facts : mapping
        JSON values: the log, the best value.
    aim : mapping of str to Tensor
        State of the objective: group weights, dual variables.
    """

    best: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]
    aim: Mapping[str, torch.Tensor]


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    *,
    aim: Mapping[str, torch.Tensor],
) -> None:
    """Write weights, optimizer, objective, random state and facts into one file, which replaces the last epoch's."""
    import torch

    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    tensors |= {f"aim/{name}": value for name, value in aim.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items() if torch.is_tensor(value)}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random/cuda/{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    partial = folder / f"{STATE}.partial"
    require("safetensors.torch", extra="train").save_file(plain, partial, metadata={FACTS: json.dumps(facts)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(folder / STATE)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> SavedTraining | None:
    """Restore model, optimizer and random state of an interrupted run; None if there was none."""
    import torch

    path = folder / STATE
    if not path.is_file():
        return None
    with require("safetensors", extra="train").safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
        facts = json.loads(file.metadata()[FACTS])
    model.load_state_dict(_below(tensors, "model/"))
    _load_optimizer(optimizer, _below(tensors, "optimizer/"))
    torch.set_rng_state(tensors["random/cpu"])
    for name, value in _below(tensors, "random/cuda/").items():
        torch.cuda.set_rng_state(value, int(name))
    return SavedTraining(_below(tensors, "best/"), facts, _below(tensors, "aim/"))


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore each moment in the memory layout of its parameter, since another summation order rounds differently."""
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        alike = value.shape == parameter.shape
        laid_out = torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value) if alike else value
        state.setdefault(int(index), {})[key] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
