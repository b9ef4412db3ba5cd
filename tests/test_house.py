"""The house as docs/design.md and CONTRIBUTING describe it: packages, citations, places, and no runtime in the core."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fqbench.contracts.numerics import IntegerFormat
from fqbench.quant.rules import RULES, Distribution, Rule, minmax_ranges

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
CODE = [path for top in ("fqbench", "backends", "calib") for path in sorted((ROOT / top).rglob("*.py"))]
# The two pages that say where things are, with everything in backquotes that looks like a file of this repository.
PLACE = re.compile(r"`((?:fqbench|backends|calib|tests|docs|benchmarks)/[\w./]*)`")


def package_name(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "fqbench" else ("fqbench", *parts))


def installed_from(package: str) -> Path:
    """Return the folder that setuptools takes a package from: the nearest entry of package-dir."""
    folders, rest = SETUPTOOLS["package-dir"], []
    while package not in folders:
        package, _, last = package.rpartition(".")
        rest.insert(0, last)
    return ROOT.joinpath(folders[package], *rest)


def test_every_package_is_installed_from_its_folder() -> None:
    folders = {package_name(path.parent): path.parent for path in CODE if path.name == "__init__.py"}
    assert set(SETUPTOOLS["packages"]) == set(folders)
    assert {name: installed_from(name) for name in folders} == folders


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_design_that_is_cited_is_in_the_repository(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"DESIGN(?:\.md)?\b|§", text)
    cited = re.findall(r"docs/design\.md, section (\d)", text)
    headings = re.findall(r"^## (\d)\.", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(cited) <= set(headings)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_places_that_are_named_exist(page: str) -> None:
    named = PLACE.findall((ROOT / page).read_text(encoding="utf-8"))
    assert named
    missing = [place for place in named if not (ROOT / place).exists() and Path(place).stem != "NAME"]
    assert not missing


def test_a_range_rule_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "half", lambda values, _format, _percentile: minmax_ranges(values) / 2)
    empty = np.zeros(1)
    values = Distribution(np.zeros((1, 2)), np.ones((1, 1)), empty, np.array([-2.0]), np.array([4.0]), empty, empty)
    assert Rule.parse("half").ranges(values, IntegerFormat()).tolist() == [[-1.0, 2.0]]
