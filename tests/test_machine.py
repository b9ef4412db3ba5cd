"""What the machine says of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fqbench import machine

CPUINFO = """processor\t: 0
model name\t: AMD EPYC 9B14
flags\t\t: fpu sse avx2 avx512f avx512_vnni avx512_bf16
cpu MHz\t\t: 2600.0

processor\t: 1
model name\t: another
flags\t\t: fpu amx_int8
"""


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO)
    real = Path
    monkeypatch.setattr(machine, "Path", lambda name: file if name == "/proc/cpuinfo" else real(name))
    return file


def test_features_are_those_that_int8_depends_on(cpuinfo: Path) -> None:
    this = machine.this_machine.__wrapped__()
    assert this.cpu == "AMD EPYC 9B14"
    assert this.features == ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")


def test_arm_calls_its_flags_features(cpuinfo: Path) -> None:
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n")
    this = machine.this_machine.__wrapped__()
    assert this.features == ("asimddp", "i8mm")
    assert this.cpu


def test_system_without_cpuinfo_has_no_known_features(cpuinfo: Path) -> None:
    cpuinfo.unlink()
    assert machine.this_machine.__wrapped__().features == ()


def test_machine_is_json() -> None:
    this = machine.this_machine()
    assert json.loads(json.dumps(this.to_dict())) == this.to_dict()
    assert this.memory > 2**20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_cores_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.usable_cores() == len(before)


def test_versions_name_only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=2.0", "no-such-distribution", "also-missing>=1; extra == 'far'", "ruff>=0.1; extra == 'dev'"]
    monkeypatch.setattr(machine, "requires", lambda _name: declared)
    monkeypatch.setattr(machine, "requirements", machine.requirements.__wrapped__)
    assert [(one.name, one.extra) for one in machine.requirements()] == [
        ("numpy", ""), ("no-such-distribution", ""), ("also-missing", "far"),
    ]  # fmt: skip
    assert machine.installed_versions().keys() == {"python", "fqbench", "numpy"}


def test_a_version_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.installed_versions()
    asked: list[str] = []

    def read(name: str) -> str:
        asked.append(name)
        return before[name]

    monkeypatch.setattr(machine, "version", read)
    assert machine.installed_versions() == before
    assert asked == ["fqbench"]
