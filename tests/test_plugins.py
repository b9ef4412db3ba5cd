"""Plug-ins are found by entry points alone; here these are made in memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from fqbench import plugins
from fqbench.errors import InputError, PluginError


class Fake(plugins.BackendBase):
    name = "fake"

    def availability(self) -> plugins.Availability:
        return plugins.Availability("1.0", ("cpu",))

    def supports(self, scheme: object) -> plugins.Support:
        return plugins.Support(plugins.Level.NATIVE)

    def quantize(self, model: object, scheme: object, calibration: object, out: Path) -> None: ...

    def load(self, artifact: object, *, threads: int, device: str) -> None: ...


class NoBackend:
    name = "half"


class NeedsArguments(Fake):
    def __init__(self, device: str) -> None:
        self.device = device


class FakeDistribution(Distribution):
    def __init__(self, name: str) -> None:
        self.metadata_text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"

    def read_text(self, filename: str) -> str | None:
        return self.metadata_text if filename in {"METADATA", "PKG-INFO"} else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


def point(name: str, value: str, distribution: str | None = None) -> EntryPoint:
    made = EntryPoint(name, value, plugins.BACKENDS)
    if distribution is not None:
        vars(made)["dist"] = FakeDistribution(distribution)
    return made


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def replace(*points: EntryPoint) -> None:
        monkeypatch.setattr("fqbench.plugins.finding.declared", lambda _group: list(points))

    return replace


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an entry point name this module, whatever name pytest gave it."""
    module = type(sys)("in_memory_plugins")
    vars(module).update(Fake=Fake, NoBackend=NoBackend, NeedsArguments=NeedsArguments, Trains=Trains, Other=Other)
    monkeypatch.setitem(sys.modules, "in_memory_plugins", module)


def test_found_by_its_entry_point(declare: Callable[..., None]) -> None:
    declare(point("fake", "in_memory_plugins:Fake", "pack"))
    assert plugins.backend("fake").name == "fake"
    (claim,) = plugins.installed(plugins.BACKENDS)["fake"]
    assert (claim.name, claim.origin) == ("fake", "pack")


def test_unknown_name_gets_the_nearest_one(declare: Callable[..., None]) -> None:
    declare(point("fake", "in_memory_plugins:Fake", "pack"), point("other", "in_memory_plugins:Fake", "pack"))
    with pytest.raises(PluginError, match=r"unknown backend 'faek': did you mean 'fake'.*doctor") as caught:
        plugins.backend("faek")
    assert caught.value.exit_code == 2
    with pytest.raises(PluginError, match="unknown sampler 'xyz': choose one of: fake, other"):
        plugins.sampler("xyz")


def test_nothing_installed_is_said(declare: Callable[..., None]) -> None:
    declare()
    with pytest.raises(PluginError, match="unknown backend 'fake': none is installed"):
        plugins.backend("fake")


def test_two_plugins_of_one_name_are_an_error_that_names_both(declare: Callable[..., None]) -> None:
    declare(point("fake", "in_memory_plugins:Fake", "second"), point("fake", "in_memory_plugins:NoBackend", "first"))
    with pytest.raises(PluginError, match="backend name 'fake' is claimed by first and second; uninstall one"):
        plugins.backend("fake")
    assert [claim.origin for claim in plugins.installed(plugins.BACKENDS)["fake"]] == ["second", "first"]


def test_two_modules_without_a_distribution_are_named_too(declare: Callable[..., None]) -> None:
    declare(point("fake", "in_memory_plugins:Fake"), point("fake", "in_memory_plugins:NoBackend"))
    with pytest.raises(PluginError, match="in_memory_plugins:Fake and in_memory_plugins:NoBackend"):
        plugins.backend("fake")


def test_one_distribution_seen_twice_is_no_clash(declare: Callable[..., None]) -> None:
    """An editable install beside its sources declares everything twice."""
    declare(*[point("fake", "in_memory_plugins:Fake", "pack")] * 2)
    assert plugins.backend("fake").name == "fake"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module_anywhere:Thing", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("in_memory_plugins:Missing", "AttributeError"),
        ("in_memory_plugins:NeedsArguments", "TypeError"),
    ],
)
def test_broken_plugin_is_listed_and_only_its_use_fails(declare: Callable[..., None], value: str, reason: str) -> None:
    declare(point("broken", value, "sorry"), point("fake", "in_memory_plugins:Fake", "pack"))
    assert list(plugins.installed(plugins.BACKENDS)) == ["broken", "fake"]
    assert plugins.backend("fake").name == "fake"
    with pytest.raises(PluginError, match=f"'broken' of sorry cannot be loaded .{reason}") as caught:
        plugins.backend("broken")
    assert caught.value.__cause__ is not None


def test_plugin_that_lacks_methods_is_refused(declare: Callable[..., None]) -> None:
    declare(point("half", "in_memory_plugins:NoBackend", "pack"))
    with pytest.raises(PluginError, match=r"'half' of pack lacks abilities, availability, .* of the Backend protocol"):
        plugins.backend("half")


class Trains(Fake):
    name = "trains"

    @property
    def abilities(self) -> plugins.Abilities:
        return plugins.Abilities(trainer=self)  # type: ignore[arg-type]


class Other(Trains):
    name = "other"


def test_another_package_does_not_change_who_trains(declare: Callable[..., None]) -> None:
    """The trainer is not whichever name comes first in the alphabet."""
    ours = point("zzz", "in_memory_plugins:Trains", "ours")
    declare(point("target", "in_memory_plugins:Fake", "ours"), ours)
    assert plugins.trainer("target")[0].name == "trains"
    declare(point("target", "in_memory_plugins:Fake", "ours"), ours, point("aaa", "in_memory_plugins:Other", "theirs"))
    assert plugins.trainer("target")[0].name == "trains"
    assert plugins.trainer("target", "aaa")[0].name == "other"


def test_several_trainers_of_other_packages_are_a_question(declare: Callable[..., None]) -> None:
    declare(
        point("target", "in_memory_plugins:Fake", "ours"),
        point("aaa", "in_memory_plugins:Trains", "first"),
        point("bbb", "in_memory_plugins:Trains", "second"),
    )
    with pytest.raises(InputError, match=r"several backends can train for target: aaa, bbb; .*--qat-trainer"):
        plugins.trainer("target")
    with pytest.raises(InputError, match="the backend target does not train"):
        plugins.trainer("target", "target")


def test_what_is_made_depends_on_the_version_of_the_distribution(declare: Callable[..., None]) -> None:
    declare(point("fake", "in_memory_plugins:Fake", "pack"))
    assert plugins.distribution(plugins.BACKENDS, "fake") == "pack 1.0"


def test_our_own_are_declared_like_any_other() -> None:
    assert "ort" in plugins.installed(plugins.BACKENDS)
    assert {"balanced", "random"} <= plugins.installed(plugins.SAMPLERS).keys()


@pytest.mark.parametrize(
    ("version", "devices", "usable"), [("1.0", ("cpu",), True), (None, ("cpu",), False), ("1.0", (), False)]
)
def test_usable_needs_a_version_and_a_device(version: str | None, devices: tuple[str, ...], usable: bool) -> None:
    assert plugins.Availability(version, devices).can_run is usable


def test_integer_share_of_nothing_is_undefined() -> None:
    assert plugins.Arithmetic(3, 4).integer_share == 0.75
    assert math.isnan(plugins.Arithmetic(0, 0).integer_share)
