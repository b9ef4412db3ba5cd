"""Somebody else's backend, installed from a package of its own, is found by its entry point and passes the suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "third_party_backend"
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into, so that this environment stays as it is."""
    source = tmp_path_factory.mktemp("package") / "source"
    shutil.copytree(
        SOURCE, source, ignore=shutil.ignore_patterns("__pycache__")
    )  # a build leaves files beside its sources
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True)
    return target


@pytest.mark.slow
def test_it_is_found_by_its_entry_point_and_passes_the_suite(site: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.xml"
    shutil.copy(SOURCE / "check_conformance.py", tmp_path)
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(tmp_path), f"--junitxml={results}", str(tmp_path / "check_conformance.py")),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    suite = ET.parse(results).getroot().find("testsuite")
    assert suite is not None
    passed = int(suite.attrib["tests"]) - int(suite.attrib["skipped"])
    assert passed >= 20, completed.stdout


def test_without_the_package_it_is_unknown() -> None:
    from fqbench import plugins

    assert "numpy_reference" not in plugins.installed(plugins.BACKENDS)
