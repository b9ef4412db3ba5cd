"""The mutation campaign changes exactly one place, and neither annotations nor docstrings."""

from __future__ import annotations

import ast

from tests.mutation import Mutator

SOURCE = '''
def f(x: int = 1) -> "1 + 1":
    """1 + 1."""
    return not x < 2 and -x * 3 == 4
'''


def test_every_place_is_changed_once_and_no_other() -> None:
    counter = Mutator()
    counter.visit(ast.parse(SOURCE))
    original = ast.unparse(ast.parse(SOURCE))
    mutants = {ast.unparse(ast.fix_missing_locations(Mutator(i).visit(ast.parse(SOURCE)))) for i in range(100)}
    assert len(mutants - {original}) == len(counter.found) == 10
    for change in ("x <= 2", "x < 3", "x: int=2", "or -x", "-x / 3", "x * 3 == 4", "* 4 ==", "!= 4", "== 5"):
        assert sum(change in mutant for mutant in mutants - {original}) >= 1, change
    assert all('"""1 + 1."""' in mutant and "x: int" in mutant for mutant in mutants)
