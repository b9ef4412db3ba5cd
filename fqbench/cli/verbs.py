"""Verbs, and the groups that hold them; a verb's options are built when it is called, so ``--help`` is fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from typer.core import TyperGroup

if TYPE_CHECKING:
    import typer
    from typer.core import TyperCommand

    from fqbench.report.document import Document

Show: TypeAlias = "Callable[[Document], None]"


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Attributes
    ----------
    name : str
        As it is typed.
    function : callable
        Parses nothing itself: its parameters become options; ``run``, an experiment, and ``show``, which
        prints a document in the format asked for, are given to it.
    panel : str
        Under which heading the group's help lists it.
    own, more : tuple of str
        Sections of `fqbench.config.Config` whose options it takes: those that ``--help`` explains, and those that it
        only names.
    without : tuple of str
        Flat names of options of these sections that it does not take.
    """

    name: str
    function: Callable[..., None]
    panel: str
    own: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of its help."""
        return (self.function.__doc__ or "").partition("\n")[0]

    @cached_property
    def command(self) -> TyperCommand:
        """The command that parses its options."""
        from fqbench.cli.options import command

        return command(self)


class Commands(MutableMapping[str, Any]):
    """Commands by name; a verb's is built when it is looked up."""

    def __init__(self) -> None:
        self.entries: dict[str, Verb | TyperGroup] = {}

    def __getitem__(self, name: str) -> Any:
        entry = self.entries[name]
        return entry.command if isinstance(entry, Verb) else entry

    def __setitem__(self, name: str, entry: Verb | TyperGroup) -> None:
        self.entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Verbs(TyperGroup):
    """A group of verbs, listed under headings."""

    def __init__(self, name: str, summary: str, *, panel: str = "") -> None:
        super().__init__(name=name, help=summary, no_args_is_help=True, rich_markup_mode=None)
        self.verbs = Commands()
        self.commands = self.verbs
        self.summary = summary
        self.panel = panel

    def verb(
        self,
        name: str,
        *,
        panel: str = "Commands",
        own: tuple[str, ...] = (),
        more: tuple[str, ...] = (),
        without: tuple[str, ...] = (),
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register a function as a verb; see `Verb` for the parameters."""

        def register(function: Callable[..., None]) -> Callable[..., None]:
            self.verbs[name] = Verb(name, function, panel, own, more, without)
            return function

        return register

    def group(self, name: str, summary: str, *, panel: str) -> Verbs:
        """Return a new group inside this one."""
        made = Verbs(name, summary, panel=panel)
        self.verbs[name] = made
        return made

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002 - click's signature
        """Return the names in the order of registration, without building a command."""
        return list(self.verbs)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Write one line per verb under its heading."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.verbs.entries.items():
            panels.setdefault(entry.panel, []).append((name, entry.summary))  # type: ignore[union-attr]
        width = max(map(len, self.verbs))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in rows])
