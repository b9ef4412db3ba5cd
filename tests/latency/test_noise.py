"""Marks on measurements that something else disturbed, and on artifacts that run in float."""

from __future__ import annotations

import pytest

from fqbench.contracts.runtime import Arithmetic, Level
from fqbench.latency import noise as noises
from fqbench.latency.kernels import kernel_doubts
from fqbench.latency.noise import Glance, glance, noise
from fqbench.latency.results import SubjectFacts
from fqbench.latency.steadiness import Doubt

QUIET = Glance(busy=10, stolen=0, total=100, own=5, frequency_mhz=3000)


def after(busy: float = 0, stolen: float = 0, own: float = 0, mhz: float | None = 3000) -> Glance:
    """Ten seconds of two cores later."""
    return Glance(10 + busy, stolen, 120, 5 + own, mhz)


def doubts(then: Glance, threads: int | None = 1, governors: tuple[str, ...] | None = None) -> dict[Doubt, str]:
    return {mark.doubt: mark.text for mark in noise(QUIET, then, threads=threads, governors=governors)}


def test_own_work_is_no_noise() -> None:
    assert doubts(after(busy=10, own=10)) == {}
    assert doubts(after(busy=11, own=10)) == {}


def test_other_programs_the_host_and_the_frequency_are_marked() -> None:
    assert "50% of the cores' time went to other programs" in doubts(after(busy=20, own=10))[Doubt.OTHER_LOAD]
    assert "10% of the cores' time was taken by the host" in doubts(after(stolen=2))[Doubt.STOLEN]
    assert "-20%" in doubts(after(mhz=2400))[Doubt.FREQUENCY]
    assert doubts(after(mhz=None)) == {}
    assert "powersave" in doubts(after(), governors=("powersave",))[Doubt.GOVERNOR]
    assert doubts(after(), governors=("performance",)) == {}


def test_more_threads_than_real_cores_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noises, "physical_cores", lambda: 2)
    monkeypatch.setattr(noises, "usable_cores", lambda: 4)
    assert "4 threads share 2 real core(s)" in doubts(after(), threads=4)[Doubt.FEW_CORES]
    assert doubts(after(), threads=2) == {}
    assert doubts(after(), threads=None) == {}


def test_a_glance_at_this_machine_is_consistent() -> None:
    first, second = glance(), glance()
    assert 0 <= first.busy <= first.total
    assert first.total <= second.total
    assert 0 < first.own <= second.own


def test_integers_asked_for_and_run_in_float_are_marked() -> None:
    facts = SubjectFacts(quantized=True)
    (mark,) = kernel_doubts(Arithmetic(10, 100), facts)
    assert (mark.doubt, mark.figure) == (Doubt.FLOAT_KERNELS, "10.0%")
    assert kernel_doubts(Arithmetic(90, 100), facts) == ()
    assert kernel_doubts(Arithmetic(10, 100), SubjectFacts(quantized=False)) == ()
    assert kernel_doubts(Arithmetic(10, 100), SubjectFacts(quantized=True, level=Level.SIMULATED)) == ()
    assert kernel_doubts(Arithmetic(10, 100, ("Attention",)), facts) == (), "what was not counted may be the rest"


def test_what_fell_back_to_the_cpu_is_marked() -> None:
    (mark,) = kernel_doubts(Arithmetic(0, 200, fallback_macs=50), SubjectFacts())
    assert (mark.doubt, mark.figure) == (Doubt.FELL_BACK, "25.0%")
