"""The result of a diagnosis: per layer, side and group the change of the answers, and what the layer costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fqbench.search.effects import GroupEffect, worst_of
from fqbench.storage import Stored

SIDES = ("both", "weights", "activations")
ALONE, LAST = "alone", "last"
WAYS = (ALONE, LAST)


@dataclass(frozen=True)
class LayerEffect:
    """What quantizing one layer does to the answers.

    Attributes
    ----------
    side : str
        ``weights``, ``activations`` or ``both``.
    way : str
        ``alone``: with every other layer in float. ``last``: added to all others: what the answers would win back if it
        stayed in float.
    groups : tuple of GroupEffect
        Every group, and all images as the last one.
    """

    side: str
    way: str
    groups: tuple[GroupEffect, ...]


@dataclass(frozen=True)
class DiagnosedLayer:
    """One layer with what it costs and what its quantization does.

    Attributes
    ----------
    name, op : str
        The module's path and the operator's type; ``all Add`` for all operators of a type without weights.
    roles : tuple of str
        As in recipes.
    bits, act_bits : int
        Of its weights and of what it reads.
    macs : int
        Multiply-accumulates of one image.
    bytes, float_bytes : int
        Of its weights, quantized and in float.
    weight_sqnr : float
        Signal to quantization noise of its weights, decibels; NaN without weights.
    activation_sqnr : dict
        The same of what it reads, by group of the calibration images; empty where it was not observed.
    effects : tuple of LayerEffect
        By side and way.
    milliseconds : float
        Median time of its kernels in the runtime's profile; NaN where it has none of its own, or none was measured.
    """

    name: str
    op: str
    roles: tuple[str, ...]
    bits: int
    act_bits: int
    macs: int
    bytes: int
    float_bytes: int
    weight_sqnr: float
    activation_sqnr: dict[str, float]
    effects: tuple[LayerEffect, ...]
    milliseconds: float = math.nan

    def effect(self, side: str, way: str) -> tuple[GroupEffect, ...]:
        """Return the effect on every group; KeyError where this was not measured."""
        for one in self.effects:
            if (one.side, one.way) == (side, way):
                return one.groups
        raise KeyError((side, way))

    @property
    def decisive(self) -> tuple[GroupEffect, ...]:
        """The effect that layers are ranked by: added last if that was measured, of both sides if possible."""
        ways = (LAST, ALONE)
        return min(self.effects, key=lambda one: (ways.index(one.way), SIDES.index(one.side))).groups

    @property
    def worst(self) -> GroupEffect:
        """The group that it changes most."""
        return worst_of(self.decisive)


@dataclass(frozen=True)
class Joint:
    """The effect of all layers together, and the sum of the layers' own effects.

    Attributes
    ----------
    side : str
        ``weights``, ``activations`` or ``both``.
    groups : tuple of GroupEffect
        All layers together.
    sum_alone, sum_last : dict
        Sums of the layers' mean divergences by group; empty where they were not measured.
    """

    side: str
    groups: tuple[GroupEffect, ...]
    sum_alone: dict[str, float]
    sum_last: dict[str, float]


@dataclass(frozen=True)
class Diagnosis(Stored):
    """Which layer changes the answers for which group.

    Attributes
    ----------
    artifact_id, label : str
        What was diagnosed; the id is empty for a scheme without an artifact.
    scheme : str
        The settled scheme as JSON.
    split : str
        Of the images.
    images : dict
        Images per group.
    layers : tuple of DiagnosedLayer
        In the order of the graph.
    joint : tuple of Joint
        By side.
    executed : tuple of GroupEffect
        The effect of the artifact as its runtime executes it; empty where it was not executed.
    passes : int
        Passes over the images.
    profiled : str
        What the runtime profiled the layers on; empty where no times were measured.
    profiled_ms : float
        Sum over all kernels, those of no layer here included; NaN without times.
    """

    artifact_id: str
    label: str
    scheme: str
    split: str
    images: dict[str, int]
    layers: tuple[DiagnosedLayer, ...]
    joint: tuple[Joint, ...]
    executed: tuple[GroupEffect, ...]
    passes: int
    profiled: str = ""
    profiled_ms: float = math.nan

    @property
    def ranked(self) -> tuple[DiagnosedLayer, ...]:
        """The layers, the one first that changes some group most."""
        return tuple(sorted(self.layers, key=lambda one: -one.worst.kl_divergence.value))
