"""Optional dependencies: imported where they are needed, with the install command when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from fqbench.errors import UnavailableError


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of fqbench brings it.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        The extra of fqbench that installs it, as in ``pip install 'fqbench[extra]'``.

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
        raise UnavailableError(f"{top} is not installed; run: pip install 'fqbench[{extra}]'.") from error
