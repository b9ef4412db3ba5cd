"""The context of every stage: configuration, workspace and reporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fqbench.config import Config, configure, vary
from fqbench.plugins import check_options
from fqbench.reporter import Reporter, Silent
from fqbench.workspace import Derivation, Entry, Workspace
from fqbench.workspace.entries import F

Result = TypeVar("Result")


class Memory(dict[object, object]):
    """Tables, stores and fingerprints opened in this process; not pickled with a run."""

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return (Memory, ())


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
        Receives progress messages.
    memory : Memory
        Shared by all variations of the experiment, so that samples and stores stay open.
    """

    config: Config = field(default_factory=Config)
    workspace: Workspace = field(default_factory=Workspace)
    reporter: Reporter = field(default_factory=Silent)
    memory: Memory = field(default_factory=Memory, repr=False, compare=False)

    def produce(self, derivation: Derivation[F], build: Callable[[Path], F], doing: str) -> Entry[F]:
        """Return the entry of a derivation; if it is missing, report it and build it."""

        def announced(out: Path) -> F:
            self.reporter.say(doing)
            return build(out)

        return self.workspace.produce(derivation, announced, self.config.model_dump(mode="json"))

    def once(self, what: str, sections: tuple[str, ...], make: Callable[[], Result]) -> Result:
        """Return ``make()``, computed once for all variations with the same options in some sections.

        Parameters
        ----------
        what : str
            Name of the result.
        sections : tuple of str
            Sections of the configuration that it depends on.
        make : callable
            Computes it.
        """
        key = (what, *(getattr(self.config, section).model_dump_json() for section in sections))
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]  # type: ignore[return-value]

    def with_options(self, section: str, **options: Any) -> Run:
        """Return the same run with other options in one section of the configuration.

        Raises
        ------
        InputError
            An unknown option, or a value out of its range.
        """
        return replace(self, config=vary(self.config, section, **options))


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
        Receives progress messages; silent by default.
    **flags
        The command line's flags with underscores: ``data="folder", root="photos", calib="balanced"``.

    Raises
    ------
    InputError
        An unknown flag, or a value that it does not take.
    """
    told = reporter or Silent()
    config = configure(file, **flags)
    check_options(config.backends)
    return Run(config, Workspace(workspace, told), told)
