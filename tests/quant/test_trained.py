"""Ranges of trained weights: the same for every batch size and thread, and hardly changed by the sample."""

from __future__ import annotations

import numpy as np
import pytest

import fqbench
from fqbench.contracts.artifacts import ExportedModel
from fqbench.contracts.numerics import IntegerFormat
from fqbench.quant.calibration import CalibrationSet
from fqbench.quant.observe import observe
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import ranges_of
from fqbench.quant.record import CalibrationRecord
from fqbench.quant.rules import Rule

RULES = ("minmax", "mean_minmax", "percentile=99.9", "percentile=99.99", "entropy", "mse")
Trained = tuple[ExportedModel, CalibrationSet]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The demo's model after one short epoch, and calibration images of its own data."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from fqbench.stages.export import export

    run = fqbench.experiment(
        tmp_path_factory.mktemp("workspace"),
        images=480,
        test_images=60,
        epochs=1,
        batch_size=32,
        calib_n=96,
        calib_by="skin_tone",
    )
    return export(run), fqbench.calibrate(run)


def scales(record: CalibrationRecord, rule: str, bits: int) -> np.ndarray:
    quantizer = IntegerFormat(bits)
    ranges = ranges_of(record, Rule.parse(rule), Policy(), quantizer)
    return quantizer.grid(ranges.low, ranges.high)[0]


@pytest.mark.slow
def test_batch_size_and_threads_do_not_change_a_scale(trained: Trained) -> None:
    model, chosen = trained
    first = observe(model, chosen, batch_size=1, threads=1)
    assert any(not activation.complete for activation in first.observed)
    for batch_size, threads in ((1, 2), (8, 1), (8, 2), (32, 1), (32, 2)):
        other = observe(model, chosen, batch_size=batch_size, threads=threads)
        for rule in RULES:
            for bits in (8, 4):
                np.testing.assert_allclose(scales(other, rule, bits), scales(first, rule, bits), rtol=1e-5)


@pytest.mark.slow
def test_the_default_sample_hardly_changes_a_scale(trained: Trained) -> None:
    """Bounds are near what was seen, `benchmarks/calibration_scales.py`; entropy's are wide (docs/decisions/0011)."""
    model, chosen = trained
    default, everything = observe(model, chosen), observe(model, chosen, sample=0)
    for rule, half, most in (
        ("minmax", 0, 0),
        ("mean_minmax", 1e-6, 1e-6),
        ("percentile=99.9", 0.005, 0.02),
        ("percentile=99.99", 0.005, 0.02),
        ("mse", 0.005, 0.03),
        ("entropy", 0.01, 0.25),
    ):
        change = np.abs(scales(default, rule, 8) / scales(everything, rule, 8) - 1)
        assert np.median(change) <= half, rule
        assert change.max() <= most, (rule, default.names[int(change.argmax())])
