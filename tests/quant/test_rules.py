"""Each range rule against somebody else's implementation on the same data."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from fqbench.contracts.numerics import IntegerFormat
from fqbench.errors import InputError
from fqbench.quant.mse_range import GroupHistograms, mse_range
from fqbench.quant.policies import Policy
from fqbench.quant.ranges import errors_of, ranges_of
from fqbench.quant.rules import Rule
from fqbench.testing.records import record_of


def tensors(seed: int = 0, images: int = 16, values: int = 1999) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (images, values)
    return {
        "relu": np.maximum(rng.normal(0.3, 1, shape), 0).astype(np.float32),
        "laplace": rng.laplace(0.2, 0.7, shape).astype(np.float32),
        "heavy": rng.standard_t(3, shape).astype(np.float32),
        "positive": rng.gamma(2.0, 1.5, shape).astype(np.float32),
        "uniform": rng.uniform(-3, 1, shape).astype(np.float32),
    }


DATA = tensors()
RECORD = record_of({name: {"a": values[:6], "b": values[6:]} for name, values in DATA.items()})
WIDTH = dict(zip(RECORD.names, RECORD.width, strict=True))


def found(rule: str, quantizer: IntegerFormat | None = None) -> dict[str, tuple[float, float]]:
    return ranges_of(RECORD, Rule.parse(rule), Policy(), quantizer or IntegerFormat()).by_name


def test_minmax_is_exact() -> None:
    for name, (low, high) in found("minmax").items():
        assert (low, high) == (min(DATA[name].min(), 0), DATA[name].max())


def test_mean_minmax_is_the_mean_over_images() -> None:
    for name, ours in found("mean_minmax").items():
        lows = np.minimum(DATA[name].min(axis=1), 0)
        expected = lows.mean(dtype=np.float64), DATA[name].max(axis=1).mean(dtype=np.float64)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("percentile", [99.999, 99.99, 99.9, 99.0, 90.0])
@pytest.mark.parametrize("symmetric", [False, True])
def test_percentile_is_within_one_bin_of_onnxruntime(percentile: float, symmetric: bool) -> None:
    from onnxruntime.quantization.calibrate import HistogramCollector

    ours = found(f"percentile={percentile}", IntegerFormat(8, symmetric))
    for name, values in DATA.items():
        collector = HistogramCollector("percentile", symmetric, 1 << 14, 0, percentile, "same")
        with contextlib.redirect_stdout(io.StringIO()):
            collector.collect({name: values})
            theirs = [float(end) for end in collector.compute_collection_result()[name][:2]]
        low, high = ours[name]
        one_bin = WIDTH[name] + 2 * np.abs(values).max() / (1 << 14)  # theirs is the left end of a bin of its own
        if symmetric:  # its symmetric form still cuts each end at the extremes
            assert high == pytest.approx(max(map(abs, theirs)), abs=one_bin)
        else:
            assert high == pytest.approx(theirs[1], abs=one_bin)
            assert low == pytest.approx(min(theirs[0], 0), abs=one_bin)


def tensorrt_threshold(values: np.ndarray, width: float, levels: int) -> float:
    """The pseudo-code of "8-bit inference with TensorRT" (2017), slide 38, on raw values and in plain loops."""
    magnitudes = np.abs(values[values != 0].astype(np.float64))
    bins = np.histogram(
        magnitudes,
        bins=int(np.ceil(magnitudes.max() / width)) + 1,
        range=(0, width * (np.ceil(magnitudes.max() / width) + 1)),
    )[0].astype(float)
    used = int(np.flatnonzero(bins)[-1]) + 1
    best, threshold = np.inf, used
    for i in range(levels, used + 1):
        reference = bins[:i].copy()
        reference[i - 1] += bins[i:].sum()
        candidate = np.zeros(i)
        for level in range(levels):
            start, end = level * i // levels, (level + 1) * i // levels
            filled = bins[start:end] > 0
            if filled.any():
                candidate[start:end][filled] = bins[start:end].sum() / filled.sum()
        p, q = reference / reference.sum(), candidate / candidate.sum()
        if (q[p > 0] == 0).any():
            continue
        divergence = float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
        if divergence < best:
            best, threshold = divergence, i
    return threshold * width


@pytest.mark.parametrize(("bits", "symmetric"), [(8, False), (8, True), (4, False), (4, True), (2, False)])
def test_entropy_is_within_one_bin_of_the_published_algorithm(bits: int, symmetric: bool) -> None:
    ours = found("entropy", IntegerFormat(bits, symmetric))
    for name, values in DATA.items():
        one_sided = values.min() >= 0 and not symmetric
        expected = tensorrt_threshold(values, WIDTH[name], 2**bits if one_sided else 2 ** (bits - 1))
        largest = max(-ours[name][0], ours[name][1])
        assert largest == pytest.approx(min(expected, np.abs(values).max()), abs=WIDTH[name]), name


def test_entropy_clips_what_onnxruntime_clips() -> None:
    """Where a few far outliers leave no doubt, the two agree; a Relu's zeros mislead only the other (see the docs)."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    rng = np.random.default_rng(3)
    values = rng.uniform(-1, 1, 200_000).astype(np.float32)
    values[:20] = rng.uniform(6, 8, 20)
    record = record_of({"t": {"a": values[None]}})
    low, high = ranges_of(record, Rule("entropy"), Policy(), IntegerFormat()).by_name["t"]
    collector = HistogramCollector("entropy", False, 2047, 255, 0, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"t": values})
        theirs = collector.compute_collection_result()["t"]
    assert high == pytest.approx(float(theirs[1]), abs=0.1)
    assert low == pytest.approx(float(theirs[0]), abs=0.1)


def quantization_error(values: np.ndarray, low: float, high: float, bits: int, symmetric: bool) -> float:
    """Quantize and widen again, as a runtime does, and measure."""
    if symmetric:
        scale = max(-low, high) / (2 ** (bits - 1) - 1)
        levels = np.clip(np.rint(values / scale), -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1)
        return float(((levels * scale - values) ** 2).mean())
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    zero = np.rint(-low / scale)
    levels = np.clip(np.rint(values / scale) + zero, 0, 2**bits - 1)
    return float((((levels - zero) * scale - values) ** 2).mean())


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_as_good_as_brute_force(bits: int, symmetric: bool) -> None:
    """On the raw values, our range is within 1 % of the error of the best of many."""
    ours = found("mse", IntegerFormat(bits, symmetric))
    for name, values in DATA.items():
        sample = values.ravel().astype(np.float64)
        lows = [0.0] if values.min() >= 0 or symmetric else np.linspace(0, values.min(), 40)[1:]
        highs = np.linspace(0, np.abs(values).max() if symmetric else values.max(), 120 if len(lows) == 1 else 40)[1:]
        best = min(quantization_error(sample, low, high, bits, symmetric) for low in lows for high in highs)
        error = quantization_error(sample, *ours[name], bits, symmetric)
        assert error <= best * 1.01, (name, ours[name])


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_no_range_near_the_one_of_mse_is_better(bits: int, symmetric: bool) -> None:
    """The grid's steps are of 0.8 %; without the finer ones some of these would be better by 0.1 to 0.3 %."""
    quantizer = IntegerFormat(bits, symmetric)
    ours = ranges_of(RECORD, Rule("mse"), Policy("only", {"a": 1.0}), quantizer)
    ranges = np.stack([ours.low, ours.high], axis=1)
    for share in np.linspace(0.996, 1.004, 41):
        assert (ours.error[:, 0] <= errors_of(RECORD, share * ranges, quantizer)[:, 0] * (1 + 2e-5)).all()


def test_a_range_that_is_given_is_never_better_than_the_one_found() -> None:
    """The extremes are so far away that no grid between them comes near what is given."""
    edges, counts = np.linspace(0, 1, 257)[None], np.ones((1, 1, 256))
    seen, quantizer = GroupHistograms(edges, counts, counts.sum(axis=2)), IntegerFormat()
    given = np.array([[[0.0, 1.0]]])
    alone, found = (mse_range(seen, np.array([[0.0, 1e6]]), quantizer, others) for others in (None, given))
    best = seen.errors(given, quantizer).item()
    assert seen.errors(found[:, None], quantizer).item() <= best < 1e-3 * seen.errors(alone[:, None], quantizer).item()


def test_noise_is_a_share_of_the_mean_square_of_each_group() -> None:
    coarse = record_of({name: {"a": values[:6], "b": values[6:]} for name, values in DATA.items()}, bins=256)
    ranges = ranges_of(coarse, Rule("minmax"), Policy(), IntegerFormat(4))
    for row, name in enumerate(ranges.tensors):
        for column, part in enumerate((DATA[name][:6], DATA[name][6:])):
            power = np.square(part, dtype=np.float64).mean()
            assert ranges.power[row, column] == pytest.approx(power, rel=0.01)
            error = quantization_error(part.astype(np.float64), *ranges.by_name[name], 4, symmetric=False)
            assert ranges.relative_error[row, column] == pytest.approx(error / power, rel=0.03)


@pytest.mark.parametrize("rule", ["minmax", "mean_minmax", "percentile=99.9", "entropy", "mse"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_symmetric_ranges_are_symmetric_in_the_quantizer(rule: str, bits: int) -> None:
    quantizer = IntegerFormat(bits, symmetric=True)
    ranges = ranges_of(RECORD, Rule.parse(rule), Policy(), quantizer)
    scale, lowest, highest = quantizer.grid(ranges.low, ranges.high)
    np.testing.assert_array_equal(lowest, -highest)
    np.testing.assert_allclose(scale * highest, np.maximum(-ranges.low, ranges.high))


def test_clipped_shares_are_those_of_the_values() -> None:
    ranges = ranges_of(RECORD, Rule("percentile", 95.0), Policy(), IntegerFormat())
    for row, name in enumerate(ranges.tensors):
        for column, part in enumerate((DATA[name][:6], DATA[name][6:])):
            outside = ((part < min(ranges.low[row], 0)) | (part > ranges.high[row])).mean()
            assert ranges.clipped[row, column] == pytest.approx(outside, abs=2e-3)


def test_nothing_is_clipped_by_the_extremes() -> None:
    assert not ranges_of(RECORD, Rule("minmax"), Policy(), IntegerFormat()).clipped.any()


def test_a_dead_tensor_has_a_range() -> None:
    record = record_of({"dead": {"a": np.zeros((3, 4), np.float32)}, "alive": {"a": np.ones((3, 4), np.float32)}})
    for rule in ("minmax", "mean_minmax", "percentile", "entropy", "mse"):
        for policy in (Policy(), Policy("minimax")):
            ranges = ranges_of(record, Rule.parse(rule), policy, IntegerFormat())
            assert np.isfinite(ranges.low).all()
            assert ranges.by_name["dead"] == (0, 0)
            assert ranges.by_name["alive"][1] == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("percentil", "unknown range rule 'percentil': did you mean 'percentile"),
        ("mse=3", "unknown range rule 'mse=3'"),
        ("percentile=101", "the percentile must be above 50 and at most 100"),
        ("percentile=many", "the percentile must be above 50 and at most 100"),
    ],
)
def test_a_wrong_rule_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rule.parse(text)


def test_rules_are_written_as_they_are_read() -> None:
    for text in ("minmax", "mean_minmax", "percentile=99.99", "entropy", "mse"):
        assert Rule.parse(text).label == text
    assert Rule.parse("percentile").label == "percentile=99.99"
