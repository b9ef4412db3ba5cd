"""Resolved recipes: of an artifact, or of a file for the configured model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fqbench import plugins
from fqbench.catalogue import artifact_entry, artifact_named, model_of
from fqbench.contracts.plan import Layer
from fqbench.contracts.runtime import Level
from fqbench.contracts.scheme import Scheme
from fqbench.plugins import support_of
from fqbench.quant.choice import settled
from fqbench.quant.graph import cleaned
from fqbench.quant.recipe import read_recipe, resolve
from fqbench.run import Run
from fqbench.stages.export import export


@dataclass(frozen=True)
class ResolvedRecipe:
    """The settings of every operator of a model.

    Attributes
    ----------
    title : str
        Of which artifact, or of which file for which backend.
    scheme : Scheme
        The recipe.
    layers : tuple of Layer
        In the order of the graph.
    ranges : mapping
        ``low`` and ``high`` of the activation that an operator reads, where they are known.
    problems : tuple of str
        What the backend cannot do, with the nearest that it can; empty for an artifact.
    """

    title: str
    scheme: Scheme
    layers: tuple[Layer, ...]
    ranges: Mapping[str, Any]
    problems: tuple[str, ...] = ()


def recipe_of(run: Run, artifact_id: str) -> ResolvedRecipe:
    """Return the resolved recipe of an artifact, with what was chosen for it."""
    artifact = artifact_named(run.workspace, artifact_id)
    graph = cleaned(model_of(run.workspace, artifact).path)
    tensors = artifact.details.get("calibration", {}).get("tensors", {})
    ranges = {node.name: tensors[node.input[0]] for node in graph.graph.node if node.input and node.input[0] in tensors}
    facts = artifact_entry(run.workspace, artifact).facts
    scheme = settled(facts.scheme, facts.choice)
    return ResolvedRecipe(f"{artifact.id} ({artifact.label})", scheme, resolve(graph, scheme), ranges)


def check_recipe(run: Run, file: Path) -> ResolvedRecipe:
    """Resolve a recipe file for the configured model and check that the configured backend executes it.

    Raises
    ------
    InputError
        The file cannot be read, or an override matches no layer.
    """
    scheme, backend = read_recipe(file), plugins.backend(run.config.quantize.backend)
    layers = resolve(cleaned(export(run).path), scheme)
    support = support_of(backend, scheme)
    problems: tuple[str, ...] = ()
    if support.level is Level.NO:
        problems = (f"{backend.name} cannot execute this: {support.reason}; try {support.nearest}.",)
    level = "" if problems else f", {support.level.value}"
    return ResolvedRecipe(f"{file} for {backend.name}{level}", scheme, layers, {}, problems)
