"""Choosing among candidates, with a told backend: what is tried in which order, what is kept, and what a trial says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from fqbench.contracts.artifacts import Artifact
from fqbench.contracts.scheme import Scheme
from fqbench.errors import DataError
from fqbench.quant.choice import RULES, Choice, Validation, choose, settled, trial

SIZES = {"large": 60, "limit": 20, "small": 19}
rng = np.random.default_rng(1)
GROUPS = np.repeat(list(SIZES), list(SIZES.values()))
REFERENCE = rng.normal(size=(len(GROUPS), 3)).astype(np.float32)
SPREAD = np.repeat([0.3, 0.8, 3.0], list(SIZES.values()))
NOISE = rng.normal(size=REFERENCE.shape) * SPREAD[:, None]
VALIDATION = Validation(lambda: iter(()), GROUPS, REFERENCE)


def answers(size: float) -> np.ndarray:
    moved: np.ndarray = (REFERENCE + size * NOISE).astype(np.float32)
    return moved


def test_a_trial_is_of_all_images_and_of_the_worst_group_with_enough() -> None:
    found = answers(1.0)
    divergence = stats.entropy(special.softmax(REFERENCE, axis=1), special.softmax(found, axis=1), axis=1)
    same = REFERENCE.argmax(axis=1) == found.argmax(axis=1)
    got = trial("one", VALIDATION, found)
    means = [divergence[group == GROUPS].mean() for group in SIZES]
    assert means == sorted(means)
    assert got.worst_group == "limit"
    assert got.worst_kl_divergence == pytest.approx(divergence[GROUPS == "limit"].mean(), rel=1e-5)
    assert got.kl_divergence == pytest.approx(divergence.mean(), rel=1e-5)
    assert got.score == pytest.approx(got.kl_divergence + got.worst_kl_divergence)
    shares = [same[group == GROUPS].mean() for group in ("large", "limit")]
    assert shares[0] > shares[1]
    assert (got.agreement, got.worst_agreement) == (pytest.approx(same.mean()), pytest.approx(shares[1]))


def test_without_a_group_of_enough_images_the_worst_is_that_of_all() -> None:
    few = Validation(lambda: iter(()), GROUPS[-19:], REFERENCE[-19:])
    got = trial("one", few, answers(1.0)[-19:])
    assert got.worst_group == ""
    assert (got.worst_kl_divergence, got.worst_agreement) == (got.kl_divergence, got.agreement)


class Told:
    """A backend whose artifacts are as far from FP32 as is told, by scheme; None is one that cannot be executed."""

    def __init__(self, size: dict[str, float | None], refused: str = "") -> None:
        self.size, self.refused = size, refused
        self.made: list[str] = []

    def name(self, scheme: Scheme) -> str:
        parts = ["7 bits"] if scheme.reduce_range else []
        parts += [scheme.range_rule, *(["correction"] if scheme.bias_correction == "on" else [])]
        parts += [scheme.rounding] if scheme.has_low_bits else []
        return ", ".join([*parts, *(["rescaled"] if scheme.rescaling == "on" else [])])

    def make(self, scheme: Scheme, out: Path) -> Artifact:
        name = self.name(scheme)
        self.made.append(name)
        (out / "model.bin").write_text(name)
        if self.refused and self.refused in name:
            raise DataError(f"{name} is refused.")
        return Artifact("told", scheme, out, ("model.bin",))

    def answer(self, artifact: Artifact, _images: Iterator[np.ndarray]) -> np.ndarray | None:
        size = self.size[(artifact.root / "model.bin").read_text()]
        return None if size is None else answers(size)

    def choose(
        self, scheme: Scheme, out: Path, *, rescalable: bool = True, validated: bool = True, reducible: bool = False
    ) -> Choice:
        validation = VALIDATION if validated else None
        choice = choose(
            scheme, validation, self.make, self.answer, out, rescalable=lambda: rescalable, reducible=reducible
        )
        assert [path.name for path in out.iterdir()] == ["model.bin"]
        assert (out / "model.bin").read_text() == self.name(choice.scheme)
        assert choice.artifact.root == out
        return choice


AUTO = Scheme(range_rule="auto")
FAR = dict.fromkeys(RULES, 0.9) | {"mse": 0.6}


def test_each_setting_is_tried_with_the_best_so_far(tmp_path: Path) -> None:
    told = Told(FAR | {"mse, correction": 0.5, "mse, correction, rescaled": 0.7})
    choice = told.choose(AUTO, tmp_path)
    assert told.made == [*RULES, "mse, correction", "mse, correction, rescaled"]
    assert told.name(choice.scheme) == "mse, correction"
    assert [one.name for one in choice.trials] == [
        *RULES,
        "mse, bias correction",
        "mse, bias correction, rescaled",
    ]
    assert choice.not_tried == {}


def test_what_makes_it_worse_is_not_kept_for_the_next(tmp_path: Path) -> None:
    told = Told(FAR | {"mse, correction": 0.7, "mse, rescaled": 0.2})
    assert told.name(told.choose(AUTO, tmp_path).scheme) == "mse, rescaled"


@pytest.mark.parametrize(("all_bits", "kept"), [(0.5, "7 bits, mse, correction"), (0.3, "mse, correction")])
def test_seven_bits_where_sums_saturate_and_the_best_of_them_with_eight(
    all_bits: float, kept: str, tmp_path: Path
) -> None:
    sizes: dict[str, float | None] = {f"7 bits, {rule}": size for rule, size in FAR.items()}
    told = Told(sizes | {"7 bits, mse, correction": 0.4, "mse, correction": all_bits})
    choice = told.choose(AUTO, tmp_path, rescalable=False, reducible=True)
    assert told.made == [*sizes, "7 bits, mse, correction", "mse, correction"]
    assert told.name(choice.scheme) == kept
    assert [one.name for one in choice.trials[-2:]] == ["7-bit weights, mse, bias correction", "mse, bias correction"]
    assert choice.to_dict()["reduce_range"] == choice.scheme.reduce_range == kept.startswith("7")
    assert settled(AUTO, choice.to_dict()) == choice.scheme


def test_without_a_trial_weights_have_all_bits(tmp_path: Path) -> None:
    told = Told({"7 bits, minmax": None})
    assert not told.choose(AUTO, tmp_path, reducible=True).scheme.reduce_range


def test_rescaling_is_tried_only_where_answers_visibly_differ_and_it_may_help(tmp_path: Path) -> None:
    near = Told(dict.fromkeys(RULES, 0.1) | {"mse": 0.01, "mse, correction": 0.02})
    (tmp_path / "near").mkdir()
    choice = near.choose(AUTO, tmp_path / "near")
    assert "add up to" in choice.not_tried["rescaling"]
    (tmp_path / "far").mkdir()
    far = Told(FAR | {"mse, correction": 0.7})
    assert far.choose(AUTO, tmp_path / "far", rescalable=False).not_tried == {}
    assert len(far.made) == len(RULES) + 1
    (tmp_path / "refused").mkdir()
    refused = Told(FAR | {"mse, correction": 0.7}, refused="rescaled")
    assert refused.choose(AUTO, tmp_path / "refused").not_tried == {"rescaling": "mse, rescaled is refused."}


@pytest.mark.parametrize(("bits", "tried"), [(8, ["minmax"]), (4, ["minmax, data", "minmax, nearest"])])
def test_rounding_is_open_for_low_bits_only(bits: int, tried: list[str], tmp_path: Path) -> None:
    told = Told({"minmax, data": 0.5, "minmax, nearest": 0.3})
    choice = told.choose(Scheme(bits=bits, bias_correction="off"), tmp_path)  # type: ignore[arg-type]
    assert told.made == tried
    assert told.name(choice.scheme) == tried[-1]


def test_without_validation_or_a_runtime_the_safe_settings_are_made_untried(tmp_path: Path) -> None:
    for number, validated in enumerate((False, True)):
        out = tmp_path / str(number)
        out.mkdir()
        told = Told(dict.fromkeys(RULES))
        choice = told.choose(AUTO, out, validated=validated)
        assert told.name(choice.scheme) == "mean_minmax"
        assert choice.trials == ()
