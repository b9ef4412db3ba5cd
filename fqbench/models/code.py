"""The user's own torch code: ``package.module:function``, from the working directory or an installed package.

Naming it with ``--model`` runs it. An artifact that was made of such a network holds no code; it says what it needs.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fqbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

LIBRARY = "code"
CLASSES = ("num_classes", "n_classes", "classes", "num_labels")  # parameters that are told how many classes there are


def is_code(name: str) -> bool:
    """Whether a model's name is a reference to code: ``nets:build``, perhaps followed by its arguments as JSON."""
    return ":" in name.partition(" ")[0]


def split_reference(reference: str) -> tuple[str, dict[str, Any]]:
    """Return module and function, and the arguments, of ``nets:build {"width": 16}``."""
    entry, _, arguments = reference.partition(" ")
    return entry, json.loads(arguments) if arguments else {}


def source_file(entry: str) -> Path:
    """Return the file of a module without running it (a package around it is run, as Python has to).

    Raises
    ------
    InputError
        There is no such module.
    """
    module = entry.partition(":")[0]
    with _working_directory():
        try:
            spec = importlib.util.find_spec(module)
        except (Exception, SystemExit) as error:
            raise _failed(module, error) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(
            f"--model {entry}: there is no module {module!r} in {Path.cwd()} or among the installed packages; "
            "run fqbench in the folder that holds it, or install its package."
        )
    return Path(spec.origin)


def fingerprint(entry: str) -> str:
    """Return SHA-256 over the module's source, and where it is in a package that is not installed, the package's."""
    path = source_file(entry)
    files = [path]
    depth = entry.partition(":")[0].count(".") + (path.name == "__init__.py")
    if depth and "site-packages" not in path.parts:
        top = path.parents[depth - 1]
        files = sorted(top.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path.parents[depth])}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def load(entry: str) -> Callable[..., Any]:
    """Import the module and return the function (or the class) that makes the network.

    Raises
    ------
    InputError
        There is no such module or function, or importing it fails.
    """
    source_file(entry)
    module, _, name = entry.partition(":")
    with _working_directory():
        try:
            found: Any = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise _failed(module, error) from error
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise InputError(f"--model {entry}: {module} has no {part!r}: {did_you_mean(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"--model {entry}: {name} is not a function or class; name one that returns the network.")
    made: Callable[..., Any] = found
    return made


def build(entry: str, arguments: Mapping[str, Any], *, classes: int) -> nn.Module:
    """Call the function and return its network.

    Parameters
    ----------
    entry : str
        ``package.module:function``.
    arguments : mapping
        Keywords; the number of classes is added where the function has a parameter for it.
    classes : int
        How many classes the data have.

    Raises
    ------
    InputError
        The function does not take these arguments, fails, or returns no module.
    """
    from torch import nn

    make = load(entry)
    given = {**told_classes(make, arguments, classes), **arguments}
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        raise InputError(
            f"--model {entry}: {error}; it takes {inspect.signature(make)}, give arguments with --model-args."
        ) from error
    except ValueError:  # it has no signature: calling it will tell
        pass
    try:
        network = make(**given)
    except (Exception, SystemExit) as error:
        raise _failed(f"{entry}({', '.join(f'{key}={value!r}' for key, value in given.items())})", error) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--model {entry}: it returns {type(network).__name__}, not a torch.nn.Module.")
    return network


def told_classes(make: Callable[..., Any], arguments: Mapping[str, Any], classes: int) -> dict[str, int]:
    """Return the parameter name for the number of classes; empty if there is none or it is already given."""
    try:
        parameters = inspect.signature(make).parameters
    except ValueError:
        return {}
    name = next((name for name in CLASSES if name in parameters), None)
    return {} if name is None or name in arguments else {name: classes}


@contextmanager
def _working_directory() -> Iterator[None]:
    """Make modules in the working directory importable, as `python -m` does."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _failed(what: str, error: BaseException) -> InputError:
    reason = (str(error).splitlines() or [""])[0][:160]
    return InputError(f"{what} fails ({type(error).__name__}: {reason}); correct the code, --traceback shows where.")
