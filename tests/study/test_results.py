"""The script that writes docs/study from a study that has run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra report")
pytest.importorskip("matplotlib", reason="needs the extra report")
pytest.importorskip("huggingface_hub", reason="needs the extra report")

from fqbench.run import Run
from fqbench.study.executors.serial import Serial
from fqbench.study.opening import open_study
from fqbench.study.runner import run_study
from fqbench.workspace import Workspace

SCRIPT = Path(__file__).parents[2] / "docs" / "study_results.py"


@pytest.mark.slow
def test_the_folder_says_how_it_was_made_and_its_links_lead_somewhere(
    write_study: Callable[..., Path], tmp_path: Path
) -> None:
    file, out = write_study(), tmp_path / "out"
    run = Run(workspace=Workspace(tmp_path / "runs"))
    run_study(run, *open_study(run, file), Serial())
    asked = [file, "--workspace", run.workspace.root, "--out", out, "--note", "Nothing else ran."]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, asked)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "made 4 configurations" in text
    assert "Nothing else ran." in text
    assert f"numpy {np.__version__}" in text
    assert "| H5: INT8" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {"cells.csv", "hypotheses.csv", "claims.csv", "change-of-parity.svg"} <= set(links)
    assert all((out / link).is_file() for link in links)
