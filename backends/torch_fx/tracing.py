"""A network made ready for FX: traced as far as it can be, with nothing left between the operators that fuse."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn import functional

from fqbench.errors import InputError

NORM = "norm"  # name of the plain normalization inside a split one


@dataclass(frozen=True)
class Traced:
    """A network as a graph.

    Attributes
    ----------
    graph : torch.fx.GraphModule
        The network; it shares its parameters.
    skipped : dict of str to str
        Modules that FX cannot look into, by path, and why: they stay whole and in float.
    bounded : dict of str to float
        Modules in front of a ReLU6, by path, and its upper bound. The ReLU6 became a ReLU, which fuses; the bound has
        to come back as the end of the quantized range.
    split : tuple of str
        Paths of normalizations that were split from their activations.
    norms : dict of str to str
        Path of the normalization behind each convolution, by path of the convolution.
    """

    graph: fx.GraphModule
    skipped: dict[str, str]
    bounded: dict[str, float]
    split: tuple[str, ...]
    norms: dict[str, str]

    def original_name(self, parameter: str) -> str:
        """Return the name that a parameter of the graph has in the network itself."""
        for path in self.split:
            if parameter.startswith(f"{path}.{NORM}."):
                return f"{path}.{parameter.removeprefix(f'{path}.{NORM}.')}"
        return parameter


def trace(network: nn.Module) -> Traced:
    """Trace a network; it is changed in place, but answers as before apart from what `Traced.bounded` says.

    Raises
    ------
    InputError
        The forward of the network itself cannot be traced.
    """
    split = split_norms(network)
    skipped: dict[str, str] = {}
    while True:
        tracer = _Tracer(frozenset(skipped))
        try:
            graph = tracer.trace(network)
            break
        except Exception as error:
            path = tracer.failed_in
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            if path is None:
                raise InputError(
                    f"FX cannot trace {type(network).__name__}: its own forward depends on values ({reason}); choose "
                    "another runtime, as --backend ort, or rewrite that forward."
                ) from error
            skipped[path] = reason
    module = fx.GraphModule(network, graph)
    module.train(network.training)
    _drop_assertions(module)
    _drop_identities(module)
    bounded = dict(_fusible_relu6(module))
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    norms = {
        str(node.args[0].target): str(node.target)
        for node in module.graph.nodes
        if _called(node, module, nn.BatchNorm2d) and _called(node.args[0], module, nn.Conv2d)
    }
    return Traced(module, skipped, bounded, split, norms)


def split_norms(network: nn.Module) -> tuple[str, ...]:
    """Replace timm's normalization with an activation inside by the two in sequence, in place.

    FX fuses a convolution with `torch.nn.BatchNorm2d` alone. Parameters are shared; `NORM` comes into their names.

    Returns
    -------
    tuple of str
        Paths of what was replaced.
    """
    replaced = []
    for path, module in list(network.named_modules()):
        if not isinstance(module, nn.BatchNorm2d) or not type(module).__module__.startswith("timm."):
            continue
        plain = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        plain.weight, plain.bias = module.weight, module.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(plain, name, getattr(module, name))
        parts: OrderedDict[str, nn.Module] = OrderedDict({NORM: plain})
        for name in ("drop", "act"):
            part = getattr(module, name, None)
            if isinstance(part, nn.Module):
                parts[name] = part
        parent, _, name = path.rpartition(".")
        split = nn.Sequential(parts)
        split.train(module.training)
        setattr(network.get_submodule(parent), name, split)
        replaced.append(path)
    return tuple(replaced)


class _Tracer(fx.Tracer):
    """A tracer that takes some modules whole, and knows in which one it failed."""

    def __init__(self, leaves: frozenset[str]) -> None:
        super().__init__()
        self.leaves = leaves
        self.failed_in: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.path_of_module(m)  # the innermost is told first
            raise


def _drop_assertions(module: fx.GraphModule) -> None:
    """Remove checks of shapes, which would keep what they look at alive."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in {"_assert", "_assert_async"}:
            module.graph.erase_node(node)


def _drop_identities(module: fx.GraphModule) -> None:
    """Remove what does nothing: Identity, and a Dropout of nothing."""
    for node in list(module.graph.nodes):
        if node.op != "call_module":
            continue
        called = module.get_submodule(str(node.target))
        nothing = isinstance(called, nn.Identity) or (isinstance(called, nn.Dropout) and not called.p)
        if nothing or (isinstance(called, nn.Dropout) and not module.training):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _fusible_relu6(module: fx.GraphModule) -> Iterator[tuple[str, float]]:
    """Turn each ReLU6 behind a convolution into a ReLU; yield the path of the convolution and the bound."""
    weighted = (nn.Conv2d, nn.Linear)
    for node in list(module.graph.nodes):
        if not _is_relu6(node, module):
            continue
        before = node.args[0]
        while _called(before, module, nn.BatchNorm2d):
            before = before.args[0]
        if not _called(before, module, weighted) or len(node.args[0].users) > 1:
            continue
        if node.op == "call_module":
            parent, _, name = str(node.target).rpartition(".")
            setattr(module.get_submodule(parent), name, nn.ReLU().train(module.training))
        else:
            node.target = functional.relu
        yield str(before.target), 6.0


def _is_relu6(node: fx.Node, module: fx.GraphModule) -> bool:
    return _called(node, module, nn.ReLU6) or (node.op == "call_function" and node.target is functional.relu6)


def _called(node: Any, module: fx.GraphModule, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    return (
        isinstance(node, fx.Node)
        and node.op == "call_module"
        and isinstance(module.get_submodule(str(node.target)), kinds)
    )
