"""Every error that a user can meet, and its exit code; a message names the thing, the reason and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FqbenchError(Exception):
    """Base of all errors that fqbench raises on purpose; its text is shown to the user as it stands.

    Attributes
    ----------
    exit_code : int
        The exit code of the command line: 1 a gate failed, 2 wrong input, 3 a runtime or device is not available
        here, 4 data are damaged or too few.
    """

    exit_code = 2


class InputError(FqbenchError):
    """The user's input is wrong: an unknown name, a missing file, options that contradict each other."""

    exit_code = 2


class SchemeNotSupported(InputError):
    """A backend cannot run the asked-for quantization scheme."""


class WorkspaceError(InputError):
    """The workspace cannot be read or written."""


class PluginError(InputError):
    """A plug-in is unknown, claimed twice, or broken."""


class GateFailed(FqbenchError):
    """A limit of the gate was not met."""

    exit_code = 1


class UnavailableError(FqbenchError):
    """A runtime, device or optional library is not available on this machine."""

    exit_code = 3


class DataError(FqbenchError):
    """Data are damaged, or too few for what was asked."""

    exit_code = 4


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt ``name``: the nearest known name, else all of them.

    Parameters
    ----------
    name : str
        What the user wrote.
    known : iterable of str
        The valid names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose one of: {', '.join(names)}." if names else "none is installed."
