"""Which bits each layer gets, as a value: a start, and the layers that are raised from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fqbench.contracts.scheme import Override, Scheme

FLOAT = 32
WITHOUT_WEIGHTS = 8
OPERATORS = "all "  # how a diagnosis names the operators of a type


@dataclass(frozen=True)
class Assignment:
    """Bits by layer over a scheme without overrides.

    Attributes
    ----------
    base : Scheme
        Rules, rounding, and the bits of every layer that is not named.
    bits : mapping of str to int
        Bits of the weights of some layers, by the name that a diagnosis gives them; 32 leaves a layer in float.
    """

    base: Scheme
    bits: Mapping[str, int]

    @property
    def scheme(self) -> Scheme:
        """The scheme with overrides, layers in the order of their names; bits of the base need no override."""
        overrides = tuple(_override(name, bits) for name, bits in self._deviations)
        return self.base.model_copy(update={"overrides": overrides})

    @property
    def _deviations(self) -> list[tuple[str, int]]:
        """The layers that have other bits than without being named, in the order of their names."""
        return [(name, bits) for name, bits in sorted(self.bits.items()) if bits != self._unnamed(name)]

    def of(self, layer: str) -> int:
        """Return the bits of a layer; operators without weights have the activations' own, unless they are in float."""
        return self.bits.get(layer, self._unnamed(layer))

    def _unnamed(self, layer: str) -> int:
        return WITHOUT_WEIGHTS if layer.startswith(OPERATORS) else self.base.bits

    def raised(self, layers: Iterable[str], to: Assignment) -> Assignment:
        """Return this assignment with the bits of another one for some layers."""
        return Assignment(self.base, {**self.bits, **{layer: to.of(layer) for layer in layers}})

    def difference(self, other: Assignment, layers: Collection[str]) -> tuple[str, ...]:
        """Return the layers that have other bits there."""
        return tuple(layer for layer in layers if self.of(layer) != other.of(layer))

    def said(self) -> str:
        """Say it in words."""
        names: dict[int, list[str]] = {}
        for name, bits in self._deviations:
            names.setdefault(bits, []).append(name)
        parts = [
            f"{', '.join(named)} {'in float' if bits == FLOAT else f'at {bits} bits'}" for bits, named in names.items()
        ]
        return f"{self.base.bits} bits" + (f", {' and '.join(parts)}" if parts else "")


def _override(name: str, bits: int) -> Override:
    if name.startswith(OPERATORS):
        return Override(op=name.removeprefix(OPERATORS), quantize=False)
    pattern = name.replace("[", "[[]")  # fnmatch reads brackets as a set of characters
    if bits == FLOAT:
        return Override(name=pattern, quantize=False)
    return Override.model_validate({"name": pattern, "bits": bits})
