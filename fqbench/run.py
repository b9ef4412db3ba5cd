"""What every stage is given: the configuration, the workspace and somebody to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fqbench.config import Config, configure
from fqbench.reporter import Reporter, Silent
from fqbench.workspace import Entry, Recipe, Workspace

Result = TypeVar("Result")


@dataclass(frozen=True)
class Run:
    """One experiment: a configuration in a workspace.

    Attributes
    ----------
    config : Config
        What was asked for.
    workspace : Workspace
        Where results are found and put.
    reporter : Reporter
        Told what is made.
    """

    config: Config = field(default_factory=Config)
    workspace: Workspace = field(default_factory=Workspace)
    reporter: Reporter = field(default_factory=Silent)
    _memory: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    def produce(self, recipe: Recipe, build: Callable[[Path], Mapping[str, Any]], doing: str) -> Entry:
        """Return the entry of a recipe; where it is missing, say what is done and build it."""

        def announced(out: Path) -> Mapping[str, Any]:
            self.reporter.say(doing)
            return build(out)

        return self.workspace.produce(recipe, announced, self.config.model_dump(mode="json"))

    def once(self, what: str, make: Callable[[], Result]) -> Result:
        """Return ``make()``, computed at most once in this run."""
        if what not in self._memory:
            self._memory[what] = make()
        return self._memory[what]  # type: ignore[return-value]

    def with_options(self, section: str, **options: Any) -> Run:
        """Return the same run with other options in one section of the configuration."""
        changed = getattr(self.config, section).model_copy(update=options)
        return Run(self.config.model_copy(update={section: changed}), self.workspace, self.reporter)


def experiment(
    workspace: Path | str | None = None, *, file: Path | None = None, reporter: Reporter | None = None, **flags: Any
) -> Run:
    """Describe an experiment for the library's functions, with the same options as the command line.

    Parameters
    ----------
    workspace : Path or str, optional
        Where results live; ``$FQBENCH_WORKSPACE``, else ``./fqbench_runs``.
    file : Path, optional
        YAML with options.
    reporter : Reporter, optional
        Told what is done; nobody is by default.
    **flags
        The command line's flags with underscores: ``data="folder", root="photos", calib="balanced"``.

    Raises
    ------
    InputError
        An unknown flag, or a value that it does not take.
    """
    told = reporter or Silent()
    return Run(configure(file, **flags), Workspace(workspace, told), told)
