"""Scales of weights and activations learned by quantization-aware training, for every runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fqbench.contracts.qparams import QParams
from fqbench.errors import DataError
from fqbench.storage import read_arrays, write_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
FACTS, SCALES, ANSWERS = "quantization.json", "weight_scales.npz", "answers.npz"


@dataclass(frozen=True)
class QatParameters:
    """Scales and zero points that a model was trained with.

    Attributes
    ----------
    bits, act_bits : int
        Of weights and activations.
    symmetric : bool
        Whether all zero points are in the middle of their levels.
    activations : mapping of str to QParams
        By tensor of the cleaned graph of the trained model. A tensor that is not here was in float.
    weights : mapping of str to ndarray of float32
        Scales of the output channels, by path of the module.
    others : mapping of str to QParams
        Activations of the trainer's own graph that the exported one has no tensor for, by the trainer's name.
    """

    bits: int
    act_bits: int
    symmetric: bool
    activations: Mapping[str, QParams]
    weights: Mapping[str, NDArray[np.float32]]
    others: Mapping[str, QParams] = field(default_factory=dict)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest level of each tensor."""
        return {name: (grid.low, grid.high) for name, grid in self.activations.items()}

    def save(self, folder: Path) -> None:
        """Write it into an existing folder; the same values give the same bytes."""
        facts = {
            "format": FORMAT,
            "bits": self.bits,
            "act_bits": self.act_bits,
            "symmetric": self.symmetric,
            "activations": {name: _plain(grid) for name, grid in sorted(self.activations.items())},
            "others": {name: _plain(grid) for name, grid in sorted(self.others.items())},
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        write_arrays(folder / SCALES, dict(sorted(self.weights.items())))


def open_qat_parameters(folder: Path) -> QatParameters:
    """Open what `QatParameters.save` wrote.

    Raises
    ------
    DataError
        It is damaged, or of another version of its format.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise DataError(f"{folder / FACTS} has format {facts['format']}, not {FORMAT}; train again.")
        return QatParameters(
            bits=facts["bits"],
            act_bits=facts["act_bits"],
            symmetric=facts["symmetric"],
            activations={name: QParams(*values) for name, values in facts["activations"].items()},
            weights=read_arrays(folder / SCALES),
            others={name: QParams(*values) for name, values in facts["others"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the learned quantization in {folder} is damaged ({error}); delete it, run again.") from error


def _plain(grid: QParams) -> list[float | int]:
    return [grid.scale, grid.zero_point, grid.bits]
