"""A resolved recipe as a document: one row per layer, with what it gets and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fqbench.report.document import Document, Records, Sheet, notes

if TYPE_CHECKING:
    from fqbench.contracts.plan import Layer

FLOAT_BYTES = 4
COLUMNS = ("layer", "operator", "roles", ">bits", ">act bits", "range rule", ">range", ">MACs", ">bytes")
RECORDS = ("layer", "operator", "roles", "bits", "act_bits", "range_rule", "low", "high", "macs", "bytes", "quantized")


def recipe_document(
    title: str, layers: Sequence[Layer], ranges: Mapping[str, Any] | None = None, problems: Sequence[str] = ()
) -> Document:
    """Return the table of a resolved recipe.

    Parameters
    ----------
    title : str
        What was resolved.
    layers : sequence of Layer
        As `fqbench.quant.recipe.resolve` gives them; operators without weights are shown where they are left in float.
    ranges : mapping, optional
        ``low`` and ``high`` by name of the operator, of the activation that it reads.
    problems : sequence of str
        What a runtime cannot do.
    """
    known = ranges or {}
    shown = [layer for layer in layers if layer.weight or not layer.quantize]
    macs = sum(layer.macs for layer in shown) or 1
    total = sum(_bytes(layer) for layer in shown) or 1
    rows = tuple(
        (
            layer.name,
            layer.op,
            ", ".join(layer.roles) or "-",
            "float" if layer.is_float else str(layer.bits),
            "float" if layer.is_float or layer.act_bits > 16 else str(layer.act_bits),
            "-" if layer.is_float else layer.range_rule,
            _range(known.get(layer.node)),
            f"{layer.macs / macs:.1%}",
            f"{_bytes(layer) / total:.1%}",
        )
        for layer in shown
    )
    how = "MACs and bytes: share of the multiply-accumulates of one image, and of the bytes of all weights."
    records = Records(RECORDS, [_record(layer, known.get(layer.node)) for layer in shown])
    value = {"layers": [dict(zip(RECORDS, row, strict=True)) for row in records.rows], "problems": list(problems)}
    return Document((Sheet(title, COLUMNS, rows, notes(how, *(f"! {text}" for text in problems))),), value, records)


def _record(layer: Layer, ends: Mapping[str, float] | None) -> tuple[object, ...]:
    low, high = (None, None) if ends is None else (ends["low"], ends["high"])
    roles, rule = ",".join(layer.roles), None if layer.is_float else layer.range_rule
    bits, act_bits = (None, None) if layer.is_float else (layer.bits, layer.act_bits)
    costs = (layer.macs, _bytes(layer), not layer.is_float)
    return (layer.name, layer.op, roles, bits, act_bits, rule, low, high, *costs)


def _bytes(layer: Layer) -> int:
    return layer.parameters * FLOAT_BYTES if layer.is_float else -(-layer.parameters * layer.bits // 8)


def _range(ends: Mapping[str, float] | None) -> str:
    return "-" if ends is None else f"[{ends['low']:.4g}, {ends['high']:.4g}]"
