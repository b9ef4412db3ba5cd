"""Times as people write them, and what an interrupted search has used."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.errors import InputError
from fqbench.search.budget import Budget, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 2 m ", 120), ("1h30m", 5400), ("1h 2m 3.5s", 3723.5)],
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["20", "m", "-3m", "20 minutes", "", " ", "30m1h", "1e3s", "nan", "infh", "20m,", "1m1m"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="--budget takes a time with its unit"):
        seconds_of(text)


def test_a_budget_of_zero_tries_nothing() -> None:
    with pytest.raises(InputError, match="leaves no time for a single trial; give some minutes"):
        seconds_of("0m")


def test_what_an_interrupted_run_used_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    budget = Budget(60, tmp_path)
    now[0] += 45
    assert budget.left
    budget.keep()
    again = Budget(60, tmp_path)
    assert again.used == 45
    now[0] += 20
    assert not again.left
    (tmp_path / "seconds.txt").write_text("?")
    assert Budget(60, tmp_path).used == 0
