"""Which arithmetic `--precision auto` takes: a rule over the device and the model, so the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from fqbench.config import TrainOptions
from fqbench.models import precision
from fqbench.models.precision import Precision, precision_of

torch = pytest.importorskip("torch")
CPU = torch.device("cpu")
DENSE = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=2))
DEPTHWISE = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8))


def with_features(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    from dataclasses import replace

    from fqbench.machine import this_machine

    machine = replace(this_machine(), features=features)
    monkeypatch.setattr(precision, "this_machine", lambda: machine)


@pytest.mark.parametrize(
    ("features", "model", "name", "reason"),
    [
        (("avx512f", "amx_bf16"), DENSE, "bf16", "this CPU has bf16 instructions"),
        (("avx512_bf16",), DENSE, "bf16", "this CPU has bf16 instructions"),
        (("avx512_bf16",), DEPTHWISE, "fp32", "depthwise convolutions are slower in bf16 on a CPU"),
        (("avx512f", "avx512_vnni"), DENSE, "fp32", "no bf16 instructions on this CPU"),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...], model: torch.nn.Module, name: str, reason: str
) -> None:
    with_features(monkeypatch, *features)
    found = precision_of("auto", model, CPU)
    assert (found.name, found.reason) == (name, reason)


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    with_features(monkeypatch)
    assert precision_of(asked, DENSE, CPU) == Precision(asked, "as asked")  # type: ignore[arg-type]


def test_auto_is_the_default() -> None:
    assert TrainOptions().precision == "auto"


def test_a_run_that_goes_on_keeps_its_precision(
    monkeypatch: pytest.MonkeyPatch, bright: object, tmp_path: Path
) -> None:
    """A workspace may move to another CPU between the two."""
    from fqbench.models.train import Hooks, train

    class Stop(Exception):
        pass

    def stop(epoch: int, _model: object) -> None:
        if epoch == 1:
            raise Stop

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
        )

    data = bright()  # type: ignore[operator]
    options = TrainOptions(epochs=2, batch_size=16)
    with_features(monkeypatch, "amx_bf16")
    with pytest.raises(Stop):
        train(network(), data, data, options, tmp_path, scratch=tmp_path, hooks=Hooks(stop))
    with_features(monkeypatch)
    assert train(network(), data, data, options, tmp_path, scratch=tmp_path).precision.name == "bf16"
    (tmp_path / "other").mkdir()
    assert train(network(), data, data, options, tmp_path / "other").precision.name == "fp32"
