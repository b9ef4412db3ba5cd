"""A workspace of a node that does not see the driver's: entries are fetched from there, and brought there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from fqbench.workspace import Derivation, Entry, Kind, Workspace, kind_named
from fqbench.workspace.carrying import pack, unpack
from fqbench.workspace.entries import F
from fqbench.workspace.store import MANIFEST, kinds_of

LEASE = 60.0  # seconds without a sign of life after which another task may make an entry
RENEWED = 10.0
PAUSE = 0.2  # between two questions whether an entry that another task makes is there
Turn: TypeAlias = Literal["there", "wait", "make"]


class Desk:
    """Keeps the driver's workspace: gives entries out, takes them in, and lets one task at a time make each.

    Parameters
    ----------
    root : str
        The driver's workspace.
    """

    def __init__(self, root: str) -> None:
        self.workspace = Workspace(root)
        self.leases: dict[tuple[str, str], tuple[str, float]] = {}

    def turn(self, kind: str, name: str, owner: str) -> Turn:
        """Say whether an entry is there, is being made by somebody else, or is for this owner to make."""
        if (self.workspace.root / kind / name / MANIFEST).is_file():
            return "there"
        holder, until = self.leases.get((kind, name), ("", 0.0))
        if holder not in {"", owner} and time.monotonic() < until:
            return "wait"
        self.renew(kind, name, owner)
        return "make"

    def renew(self, kind: str, name: str, owner: str) -> None:
        """Keep an entry for its maker, who is alive."""
        self.leases[kind, name] = (owner, time.monotonic() + LEASE)

    def drop(self, kind: str, name: str, owner: str) -> None:
        """Let others make an entry, since this owner could not."""
        if self.leases.get((kind, name), ("", 0.0))[0] == owner:
            del self.leases[kind, name]

    def find(self, kinds: Sequence[str], name: str) -> tuple[str, bytes] | None:
        """Return the entry with a name, of one of these kinds; None if there is none."""
        for kind in map(kind_named, kinds):
            if (self.workspace.root / kind.name / name / MANIFEST).is_file():
                return kind.name, pack(self.workspace, kind, name)
        return None

    def names(self, kind: str) -> list[str]:
        """Return the ids of all entries of a kind."""
        return [path.name for _kind, path in self.workspace.folders(kind)]

    def put(self, kind: str, name: str, data: bytes) -> None:
        """Take an entry in."""
        unpack(self.workspace, kind_named(kind), name, data)
        self.leases.pop((kind, name), None)


class AsksDesk(Protocol):
    """Calls a method of a `Desk`, wherever it is, and returns its answer."""

    def __call__(self, method: str, *values: Any) -> Any:
        """Return the answer."""
        ...


class CarriedWorkspace(Workspace):
    """A workspace of one node, whose entries are those of the driver's workspace.

    Parameters
    ----------
    root : Path
        Where this node keeps its copies.
    ask : AsksDesk
        Asks the desk at the driver's workspace.
    owner : str
        The task; when it runs again, it takes up what it had begun.
    """

    def __init__(self, root: Path, ask: AsksDesk, owner: str) -> None:
        super().__init__(root)
        self.ask, self.owner = ask, owner
        self.brought: set[tuple[str, str]] = set()

    def find(self, derivation: Derivation[F]) -> Entry[F] | None:
        """Return the finished entry of a derivation; it is then in both workspaces."""
        kind, name = derivation.kind, derivation.id
        found = super().find(derivation)
        if found is not None:
            self._bring(kind, name)
            return found
        return super().find(derivation) if self._fetch([kind], name) else None

    def produce(self, derivation: Derivation[F], build: Callable[[Path], F], config: Mapping[str, Any]) -> Entry[F]:
        """Return the entry of a derivation, building it if it is nowhere and nobody is at it."""
        kind, name = derivation.kind.name, derivation.id
        while (found := self.find(derivation)) is None:
            if self.ask("turn", kind, name, self.owner) == "make":
                with self._kept(kind, name):
                    found = super().produce(derivation, build, config)
                    self._bring(derivation.kind, name)
                return found
            time.sleep(PAUSE)
        return found

    def folders(self, kind: Kind[Any] | str | Sequence[Kind[Any]] | None = None) -> list[tuple[Kind[Any], Path]]:
        """Return kind and folder of every entry; those of a kind that is named are fetched first."""
        for one in kinds_of(kind) if kind is not None else ():
            here = {path.name for _kind, path in super().folders(one)}
            for name in self.ask("names", one.name):
                if name not in here:
                    self._fetch([one], name)
        return super().folders(kind)

    def _exactly(self, name: str, kind: Kind[Any] | str | Sequence[Kind[Any]] | None) -> list[tuple[Kind[Any], Path]]:
        found = super()._exactly(name, kind)
        if found or not self._fetch(kinds_of(kind), name):
            return found
        return super()._exactly(name, kind)

    def _fetch(self, kinds: Sequence[Kind[Any]], name: str) -> bool:
        """Copy an entry from the driver's workspace; return whether it is there."""
        answer = self.ask("find", [kind.name for kind in kinds], name)
        if answer is None:
            return False
        kind, data = answer
        unpack(self, kind_named(kind), name, data)
        self.brought.add((kind, name))
        return True

    def _bring(self, kind: Kind[Any], name: str) -> None:
        """See to it that the driver has an entry, which another process of this node may have made just now."""
        if (kind.name, name) in self.brought:
            return
        if self.ask("turn", kind.name, name, self.owner) != "there":
            self.ask("put", kind.name, name, pack(Workspace(self.root), kind, name))
        self.brought.add((kind.name, name))

    @contextmanager
    def _kept(self, kind: str, name: str) -> Iterator[None]:
        """Say now and then that this task is alive, while it makes an entry."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(RENEWED):
                self.ask("renew", kind, name, self.owner)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if (kind, name) not in self.brought:
                self.ask("drop", kind, name, self.owner)
