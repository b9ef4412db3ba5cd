"""Padding with minus infinity, as pooling of "same" size is exported with: it goes into the MaxPool that follows.

An activation that contains minus infinity has no range. ONNX's MaxPool pads with nothing that could be the maximum
(operator specification, MaxPool), so that both graphs give the same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fqbench.onnx_graph import attribute, constants, consumers, values_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def fold_pool_padding(graph: GraphProto) -> bool:
    """Move padding with minus infinity into the MaxPools that read it, in place; padding of batch or channels stays.

    Returns
    -------
    bool
        Whether the graph was changed.
    """
    readers, outputs = consumers(graph), {value.name for value in graph.output}
    folded = []
    for node in graph.node:
        if node.op_type != "Pad" or node.output[0] in outputs:
            continue
        pools = readers.get(node.output[0], [])
        before = _minus_infinity(graph, node)
        if before is None or not pools or not all(_takes(pool, before) for pool in pools):
            continue
        for pool in pools:
            _pad(pool, before)
            pool.input[0] = node.input[0]
        folded.append(node)
    for node in folded:
        graph.node.remove(node)
    kept = [value for value in graph.value_info if value.name not in {node.output[0] for node in folded}]
    if folded:
        del graph.value_info[:]
        graph.value_info.extend(kept)
    return bool(folded)


def _minus_infinity(graph: GraphProto, node: NodeProto) -> list[int] | None:
    """Return how far a node pads the spatial axes with minus infinity, as MaxPool's ``pads``; None if it does not."""
    if attribute(node, "mode", b"constant") != b"constant" or (len(node.input) > 3 and node.input[3]):
        return None
    known = constants(graph)
    if len(node.input) < 3 or node.input[1] not in known or node.input[2] not in known:
        return None
    widths, value = values_of(known[node.input[1]]), values_of(known[node.input[2]])
    axes = len(widths) // 2
    sides = widths.reshape(2, axes)
    if not np.all(np.isneginf(value)) or axes < 3 or sides.min() < 0 or sides[:, :2].any():
        return None
    return [int(width) for width in sides[:, 2:].reshape(-1)]


def _takes(pool: NodeProto, widths: list[int]) -> bool:
    """Whether a node is a MaxPool whose own padding is explicit and stays smaller than its kernel."""
    if pool.op_type != "MaxPool" or attribute(pool, "auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if (len(pool.output) > 1 and pool.output[1]) or attribute(pool, "ceil_mode", 0):
        return False  # indices count padded places, and rounding up depends on what is padding
    kernel = attribute(pool, "kernel_shape")
    return all(width < side for width, side in zip(_padded(pool, widths), [*kernel, *kernel], strict=True))


def _padded(pool: NodeProto, widths: list[int]) -> list[int]:
    own = attribute(pool, "pads", [0] * len(widths))
    return [mine + more for mine, more in zip(own, widths, strict=True)]


def _pad(pool: NodeProto, widths: list[int]) -> None:
    from onnx import helper

    pads = _padded(pool, widths)
    others = [given for given in pool.attribute if given.name != "pads"]
    del pool.attribute[:]
    pool.attribute.extend([*others, helper.make_attribute("pads", pads)])
