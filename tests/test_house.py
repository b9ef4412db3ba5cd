"""The house as docs/design.md and CONTRIBUTING describe it: packages, citations, places, and no runtime in the core."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fqbench import plugins
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


# Names of runtimes and of what brings them. ONNX Runtime is missing: the core's reference executor is that library.
RUNTIMES = ("trt", "tensorrt", "torch_fx", "torch_compile", "inductor", "torchao", "pycuda", "openvino", "litert")
ALLOWED = {"fqbench/quant/rules.py": "8-bit inference with TensorRT"}  # the title of a source


def options_of_runtimes() -> set[str]:
    backends = [plugins.backend(name) for name in plugins.installed(plugins.BACKENDS)]
    names = {name for backend in backends for name in type(backend.options).model_fields}
    assert "max_batch" in names
    return names - {"workspace", "streams"}  # words that the core has a use of its own for


def test_the_core_names_no_runtime_and_no_option_of_one() -> None:
    words = re.compile(rf"\b({'|'.join([*RUNTIMES, *sorted(options_of_runtimes())])})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "fqbench").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
        and not line.strip().startswith("Example: fqbench ")
        and ALLOWED.get(str(path.relative_to(ROOT)), "\n") not in line
    ]
    assert found == []


# What fqbench/onnx_graph.py is for, as it would be written again. `consumers` and `producers` as attributes of a class
# are caches of a graph that does not change, so they have to be made of the module's functions.
LOOK_UPS = {
    "a function of the same name": r"^def _?(attributes?|producers|consumers|initializers|constants|origin|copied)\(",
    "a map of producers": r"\w+: node for node in [\w.]+ for \w+ in node\.output",
    "a map of initializers": r"for \w+ in [\w.]+\.initializer\}",
    "a map of consumers": r"\.setdefault\(\w+, \[\]\)\.append\(node\)",
    "the value of an attribute": r"helper\.get_attribute_value\(|for \w+ in [\w.]+\.attribute if \w+\.name ==",
    "the values of a tensor": r"numpy_helper\.to_array\(",
}


@pytest.mark.parametrize("what", LOOK_UPS)
def test_graph_look_ups_stand_in_one_module(what: str) -> None:
    pattern = re.compile(LOOK_UPS[what], re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in CODE if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == ["fqbench/onnx_graph.py"]


def test_a_public_class_is_defined_once() -> None:
    texts = [path.read_text(encoding="utf-8") for path in CODE if path.parent.name != "testing"]
    found = [name for text in texts for name in re.findall(r"^class ([A-Z]\w*)", text, re.MULTILINE)]
    assert [name for name, times in Counter(found).items() if times > 1] == []


def test_every_module_of_the_core_has_a_layer() -> None:
    (contract,) = PROJECT["tool"]["importlinter"]["contracts"]
    layers = {module for layer in contract["layers"] for module in layer.split(" : ")}
    modules = {path.stem for path in (ROOT / "fqbench").glob("*.py")}
    modules |= {path.parent.name for path in (ROOT / "fqbench").glob("*/__init__.py")}
    assert layers == {f"fqbench.{name}" for name in modules - {"__init__"}}
