"""Choose the executor that the command line names."""

from __future__ import annotations

from fqbench.errors import InputError, did_you_mean
from fqbench.study.executors import Executor
from fqbench.study.executors.serial import Serial

LOCAL = "local"
KNOWN = (LOCAL,)


def executor_named(name: str, *, workers: int | None = None) -> Executor:  # noqa: ARG001
    """Return an executor.

    Parameters
    ----------
    name : str
        ``local``.
    workers : int, optional
        Tasks at a time; one by default.

    Raises
    ------
    InputError
        There is no such executor.
    """
    if name not in KNOWN:
        raise InputError(f"unknown executor {name!r}: {did_you_mean(name, KNOWN)}")
    return Serial()
