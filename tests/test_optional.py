"""Optional libraries: missing, broken, or there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fqbench.errors import UnavailableError
from fqbench.optional import require


def test_installed_module_is_returned() -> None:
    assert require("json.decoder", extra="train").__name__ == "json.decoder"


@pytest.mark.parametrize("module", ["no_such_runtime", "no_such_runtime.inner.module"])
def test_missing_module_gives_the_install_command(module: str) -> None:
    with pytest.raises(UnavailableError, match=r"no_such_runtime is not installed; run: pip install 'fqbench\[trt\]'"):
        require(module, extra="trt")


def test_what_the_base_install_has_needs_no_extra() -> None:
    with pytest.raises(UnavailableError, match=r"no_such_runtime is not installed; run: pip install no_such_runtime\."):
        require("no_such_runtime")


def test_cause_is_kept() -> None:
    with pytest.raises(UnavailableError) as caught:
        require("no_such_runtime", extra="trt")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.exit_code == 3


def test_module_that_is_there_and_broken_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_runtime.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency"):
        require("broken_runtime", extra="trt")
    assert "broken_runtime" not in sys.modules


def test_submodule_that_an_installed_library_lacks_is_not_called_missing() -> None:
    """`json` is installed: 'pip install' would not bring `json.no_such_part`."""
    with pytest.raises(ModuleNotFoundError, match=r"json\.no_such_part"):
        require("json.no_such_part", extra="train")
