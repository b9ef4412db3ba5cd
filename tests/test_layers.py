"""What import-linter cannot see: plug-ins are found by entry points alone, and heavy libraries are imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "fqbench").rglob("*.py"))
PLUGINS = sorted([*(ROOT / "backends").rglob("*.py"), *(ROOT / "calib").rglob("*.py")])
HEAVY = {"torch", "torchvision", "timm", "accelerate", "onnx", "onnxruntime", "pandas", "pyarrow", "fairlearn", "scipy"}
# Modules that are about torch alone, which the plug-in's own functions import.
OF_TORCH = [path for path in PLUGINS if path.parent.name == "torch_fx" and path.stem not in {"__init__", "backend"}]
# What a plug-in of somebody else may build on; the stages and the command line are ours alone.
PRIVATE = ("fqbench.stages", "fqbench.cli", "fqbench.report", "fqbench.terminal", "fqbench.demo", "fqbench.workspace")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_never_imports_a_plugin(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith(("fqbench.backends", "fqbench.calib"))}


@pytest.mark.parametrize(
    "path", [path for path in CORE + PLUGINS if path not in OF_TORCH], ids=lambda path: str(path.relative_to(ROOT))
)
def test_heavy_libraries_are_imported_inside_functions(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path, top_level=True)} & HEAVY


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_build_on_the_public_core_alone(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith(PRIVATE)}
    assert not {name for name in imports(path) if name.startswith(("fqbench.backends", "fqbench.calib"))}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plugins_load_no_runtime() -> None:
    code = (
        "import sys\n"
        "from fqbench import plugins\n"
        "for name in plugins.installed(plugins.BACKENDS): plugins.backend(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    assert run_python(code).strip() == "[]"


def test_help_loads_no_runtime() -> None:
    code = (
        "import sys\n"
        "from fqbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    assert run_python(code).strip().endswith("[]")


def test_importing_fqbench_is_light() -> None:
    code = f"import sys, fqbench; dir(fqbench); print(sorted({HEAVY | {'typer', 'pydantic'}!r} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"
