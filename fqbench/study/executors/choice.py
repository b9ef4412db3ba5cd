"""Choose the executor that the command line names."""

from __future__ import annotations

from fqbench.errors import InputError, did_you_mean
from fqbench.study.executors import Executor
from fqbench.study.executors.local import Local
from fqbench.study.executors.ray import Ray
from fqbench.study.executors.serial import Serial

LOCAL, RAY = "local", "ray"
KNOWN = (LOCAL, RAY)


def executor_named(name: str, *, workers: int | None = None, address: str | None = None) -> Executor:
    """Return an executor.

    Parameters
    ----------
    name : str
        ``local`` or ``ray``.
    workers : int, optional
        Most tasks at a time, on each node; ``local`` has one by default, ``ray`` one per core.
    address : str, optional
        Of a Ray cluster; without it, one is started here.

    Raises
    ------
    InputError
        There is no such executor, or an address is given for one that takes none.
    UnavailableError
        Ray is not installed.
    """
    if name not in KNOWN:
        raise InputError(f"unknown executor {name!r}: {did_you_mean(name, KNOWN)}")
    if name == RAY:
        return Ray(address, workers or 0)
    if address is not None:
        raise InputError(f"--address {address} belongs to --executor ray; leave it out, or name that executor.")
    return Serial() if workers in {None, 1} else Local(workers)
