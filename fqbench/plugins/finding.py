"""Find plug-ins by entry points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from pydantic import ValidationError

from fqbench.contracts.sampler import Sampler
from fqbench.errors import InputError, PluginError, UnavailableError, did_you_mean
from fqbench.plugins.protocols import Backend, Trainer

BACKENDS = "fqbench.backends"
SAMPLERS = "fqbench.calib"


@dataclass(frozen=True)
class Installed:
    """One declared plug-in: its name, the distribution that declares it with its version, and how to load it."""

    name: str
    origin: str
    load: Callable[[], object]
    version: str = ""


@cache
def declared(group: str) -> Sequence[EntryPoint]:
    """Return all entry points of a group; tests replace this with entry points in memory."""
    return tuple(entry_points(group=group))


_READ: dict[str, tuple[Sequence[EntryPoint], dict[str, list[Installed]]]] = {}


def installed(group: str) -> dict[str, list[Installed]]:
    """Return the declared plug-ins of a group by name; a name that two packages claim keeps both."""
    points = declared(group)
    if group not in _READ or _READ[group][0] is not points:  # each look at a distribution parses all its metadata
        _READ[group] = points, _by_name(points)
    return _READ[group][1]


def _by_name(points: Sequence[EntryPoint]) -> dict[str, list[Installed]]:
    found: dict[str, dict[tuple[str, str], Installed]] = {}
    for point in points:
        origin, version = (point.dist.name, point.dist.version) if point.dist is not None else (point.value, "")
        # The same distribution can be seen twice (an editable install and its sources): that is not a conflict.
        found.setdefault(point.name, {})[origin, point.value] = Installed(point.name, origin, point.load, version)
    return {name: list(found[name].values()) for name in sorted(found)}


def distribution(group: str, name: str) -> str:
    """Return the distribution that declares a plug-in, with its version: ``fqbench 0.1.0``."""
    claims = installed(group).get(name, [])
    return f"{claims[0].origin} {claims[0].version}".strip() if claims else ""


def backend(name: str, options: Mapping[str, Any] | None = None) -> Backend:
    """Return the installed backend called ``name``, with its own options set.

    Raises
    ------
    PluginError
        No such backend, two packages that claim the name, or one that cannot be loaded.
    InputError
        It has no such option, or the value is out of its range.
    """
    found = cast(Backend, _instantiate(BACKENDS, "backend", name, Backend))
    if not options:
        return found
    kind = type(found.options)
    try:
        chosen = kind.model_validate({**found.options.model_dump(), **options})
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        if key not in kind.model_fields:
            known = did_you_mean(key, kind.model_fields) if kind.model_fields else "it has none."
            raise InputError(f"the backend {name} has no option {key!r}: {known}") from error
        raise InputError(
            f"--backend-option {name}.{key}: {problem['msg']}, not {problem['input']!r}; "
            f"`fqbench doctor {name}` describes its options."
        ) from error
    found = copy.copy(found)
    vars(found)["options"] = chosen
    return found


def check_options(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the options of backends that a configuration holds.

    Raises
    ------
    PluginError, InputError
        As `backend` says.
    """
    for name, values in options.items():
        backend(name, values)


def sampler(name: str) -> Sampler:
    """Return the installed sampler called ``name``.

    Raises
    ------
    PluginError
        No such sampler, two packages that claim the name, or one that cannot be loaded.
    """
    return cast(Sampler, _instantiate(SAMPLERS, "sampler", name, Sampler))


def trainer(target: str, chosen: str | None = None) -> tuple[Backend, Trainer]:
    """Return the backend that trains with fake quantization for another one, and its `Trainer`.

    Parameters
    ----------
    target : str
        The backend that the model is trained for. If it trains itself, it is taken; else the one backend of the same
        distribution that does, else the one that is installed.
    chosen : str, optional
        The backend to take instead.

    Raises
    ------
    UnavailableError
        None can train here; the message says why.
    InputError
        The chosen one does not train, or there are several and none was chosen.
    """
    plugins = installed(BACKENDS)
    able, reasons = {}, []
    for name in [chosen] if chosen else plugins:
        try:
            found = backend(name)
        except PluginError:
            if chosen:
                raise
            continue  # a broken plug-in of somebody else is `fqbench doctor`'s business
        if found.abilities.trainer is None:
            continue
        available = found.availability()
        if available.can_run:
            able[name] = found
        else:
            reasons.append(f"{name}: {available.reason} {available.remedy}".strip())
    if chosen and not able and not reasons:
        raise InputError(f"the backend {chosen} does not train with fake quantization; leave --qat-trainer out.")
    if not able:
        why = "; ".join(reasons) or "no installed backend trains with fake quantization"
        raise UnavailableError(f"quantization-aware training is not available here ({why}).")
    family = [name for name in able if distribution(BACKENDS, name) == distribution(BACKENDS, target)]
    candidates = [target] if target in able else family or list(able)
    if len(candidates) > 1:
        names = ", ".join(candidates)
        raise InputError(f"several backends can train for {target}: {names}; choose one with --qat-trainer.")
    found = able[candidates[0]]
    return found, cast(Trainer, found.abilities.trainer)


def _instantiate(group: str, kind: str, name: str, protocol: type) -> object:
    plugins = installed(group)
    if name not in plugins:
        hint = did_you_mean(name, plugins)
        raise PluginError(f"unknown {kind} {name!r}: {hint} `fqbench doctor` lists what is installed.")
    claims = plugins[name]
    if len(claims) > 1:
        both = " and ".join(sorted(claim.origin for claim in claims))
        raise PluginError(f"the {kind} name {name!r} is claimed by {both}; uninstall one of them.")
    try:
        factory = claims[0].load()
        plugin = factory() if callable(factory) else factory
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"the {kind} {name!r} of {claims[0].origin} cannot be loaded ({reason}); reinstall or uninstall it."
        ) from error
    if not isinstance(plugin, protocol):
        members = {name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")}
        missing = ", ".join(sorted(part for part in members if not hasattr(plugin, part)))
        raise PluginError(
            f"the {kind} {name!r} of {claims[0].origin} lacks {missing} of the {protocol.__name__} protocol; "
            "run the conformance suite in fqbench.testing on it."
        )
    return plugin
