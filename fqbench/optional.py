"""Optional dependencies: imported where they are needed, with the install command when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from fqbench.errors import UnavailableError


def require(module: str, *, extra: str = "") -> ModuleType:
    """Import ``module``, or raise an error that says how to install it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        The extra of fqbench that installs it, as in ``pip install 'fqbench[extra]'``; empty where the base install
        has it.

    Raises
    ------
    UnavailableError
        The module is not installed. A module that is there but broken raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name != top:
            raise
        command = f"'fqbench[{extra}]'" if extra else top
        raise UnavailableError(f"{top} is not installed; run: pip install {command}.") from error


def installed_version(distribution: str, *, extra: str) -> str:
    """Return the version of an optional library without importing it, or raise an error that names its extra.

    Raises
    ------
    UnavailableError
        It is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError as error:
        raise UnavailableError(f"{distribution} is not installed; run: pip install 'fqbench[{extra}]'.") from error
