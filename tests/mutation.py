"""A mutation campaign: change one operator or constant of a module at a time, and see whether its tests notice.

Run by hand, not in CI (POSIX only)::

    python -m tests.mutation fqbench.fairness.intervals=tests/fairness/test_intervals.py --sample 40

A mutant that its tests do not notice *survives*: add a test, or see that it is equivalent to the original. Nothing is
written to the source: each mutant is compiled in a forked process that then runs pytest (without slow tests).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import hypothesis

SWAPS: dict[type[ast.AST], Callable[[], ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
FEW = "few"  # Hypothesis's profile of the first attempt; a mutant that survives it meets all examples
# Without rewritten assertions, so that pytest's plug-ins may be imported already.
OPTIONS = ("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--assert=plain")


class Mutator(ast.NodeTransformer):
    """Count the places that can be changed, and change the one with the number ``target``."""

    def __init__(self, target: int = -1) -> None:
        self.target = target
        self.found: list[str] = []

    def _here(self, node: ast.AST, what: str) -> bool:
        self.found.append(f"line {getattr(node, 'lineno', '?')}: {what}")
        return len(self.found) - 1 == self.target

    def visit(self, node: ast.AST) -> ast.AST:
        """Leave annotations and ``if TYPE_CHECKING`` alone."""
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                kept, placeholder = getattr(node, field), ast.Name("object", ast.Load())
                setattr(node, field, placeholder)
                made = super().visit(node)
                setattr(node, field, kept)
                return made
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return node
        return super().visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Swap a comparison for its neighbour."""
        self.generic_visit(node)
        for index, operator in enumerate(node.ops):
            if type(operator) in SWAPS and self._here(node, f"{type(operator).__name__} of {ast.unparse(node)}"):
                node.ops[index] = SWAPS[type(operator)]()  # type: ignore[call-overload]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Swap an operator."""
        self.generic_visit(node)
        if type(node.op) in SWAPS and self._here(node, f"{type(node.op).__name__} of {ast.unparse(node)}"):
            node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Swap and for or."""
        self.generic_visit(node)
        if self._here(node, f"{type(node.op).__name__} of {ast.unparse(node)}"):
            node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Drop a not, a minus or a ~."""
        self.generic_visit(node)
        return node.operand if self._here(node, f"dropped sign of {ast.unparse(node)}") else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Add one to a number, negate a truth value."""
        if isinstance(node.value, bool):
            return ast.Constant(not node.value) if self._here(node, f"not {node.value}") else node
        if isinstance(node.value, int | float):
            return ast.Constant(node.value + 1) if self._here(node, f"{node.value} + 1") else node
        return node


class MutantLoader(importlib.machinery.SourceFileLoader):
    """Compile a module with one place changed."""

    target = -1

    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """Return the mutant's code; nothing is cached."""
        tree = ast.fix_missing_locations(Mutator(self.target).visit(ast.parse(data)))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def get_data(self, path: str) -> bytes:
        """Never read or use compiled files."""
        if path.endswith(".pyc"):
            raise OSError(path)
        return super().get_data(path)

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:
        """Write no compiled file."""


class Finder(importlib.abc.MetaPathFinder):
    """Find one module as a mutant."""

    def __init__(self, module: str, path: Path, target: int) -> None:
        self.module, self.path, self.target = module, path, target

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        """Return the mutant's spec."""
        if fullname != self.module:
            return None
        loader = MutantLoader(fullname, str(self.path))
        loader.target = self.target
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def survives(
    module: str, path: Path, target: int, tests: list[str], seconds: int, *options: str, imported: Path | None = None
) -> bool:
    """Run the tests of one mutant in a forked process; ``imported`` gets the names of the modules in use then."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(seconds)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            sys.meta_path.insert(0, Finder(module, path, target))
            import pytest

            code = int(pytest.main([*OPTIONS, *options, *tests]))
            if imported is not None:
                imported.write_text("\n".join(sys.modules))
        finally:
            os._exit(0 if code == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def load(names: list[str]) -> None:
    """Import what the tests need from other packages, once for all mutants."""
    for name in names:
        if name.partition(".")[0] not in {"fqbench", "tests", "__main__", "conftest"}:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def campaign(
    module: str, tests: list[str], chance: random.Random, *, sample: int, deadline: float, seconds: int
) -> str:
    """Try a sample of a module's mutants, name the survivors, and return a row of figures."""
    _top, *rest = module.split(".")
    folder = Path() if rest[0] in {"backends", "calib"} else Path("fqbench")  # where pyproject.toml maps the package
    path = folder.joinpath(*rest).with_suffix(".py")
    counter = Mutator()
    counter.visit(ast.parse(path.read_text(encoding="utf-8")))
    quick = f"--hypothesis-profile={FEW}"
    chosen = sorted(chance.sample(range(len(counter.found)), min(sample, len(counter.found))))
    with tempfile.NamedTemporaryFile() as file:
        passed = survives(module, path, -1, tests, 10 * seconds, quick, imported=Path(file.name))
        load(Path(file.name).read_text().split())
    if not passed:
        return f"{module}: its tests fail without a mutant; mend them first."
    tried = survived = 0
    for target in chosen:
        if time.monotonic() > deadline:
            break
        tried += 1
        if survives(module, path, target, tests, seconds, quick) and survives(module, path, target, tests, seconds):
            survived += 1
            print(f"  survived {module} {counter.found[target]}", flush=True)
    return f"{module}: {len(counter.found)} mutants, {tried} tried, {tried - survived} killed, {survived} survived"


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="+", metavar="MODULE=TEST[,TEST]")
    parser.add_argument("--sample", type=int, default=30, help="mutants per module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this time")
    parser.add_argument("--seconds", type=int, default=120, help="a mutant that takes longer counts as killed")
    asked = parser.parse_args()
    hypothesis.settings.register_profile(
        FEW, max_examples=10, deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
    )
    chance, deadline = random.Random(asked.seed), time.monotonic() + 60 * asked.minutes
    rows = []
    for target in asked.targets:
        module, _, tests = target.partition("=")
        options = {"sample": asked.sample, "deadline": deadline, "seconds": asked.seconds}
        rows.append(campaign(module, tests.split(","), chance, **options))
        print(rows[-1], flush=True)
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
