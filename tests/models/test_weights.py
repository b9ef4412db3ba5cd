"""What training scripts wrap around weights, and how names are matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.errors import DataError
from fqbench.models.weights import PREFIXES, State, fit, load_as_it_is, read_weights

torch = pytest.importorskip("torch")

NAMES = st.from_regex(r"[a-d]{1,3}\.(weight|bias)", fullmatch=True)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


@given(st.sets(NAMES, min_size=1), st.lists(st.sampled_from(PREFIXES), max_size=2), st.sets(NAMES, max_size=2))
def test_any_prefix_is_found_and_nothing_else_is_lost(own: set[str], prefix: list[str], others: set[str]) -> None:
    model = {name: torch.zeros(1) for name in own}
    beside = {f"loss.{name}" for name in others}
    before = "".join(prefix)
    found = fit(State({f"{before}{name}": torch.ones(1) for name in own} | dict.fromkeys(beside, torch.ones(1))), model)
    assert set(found.tensors) == own
    assert found.prefix == before
    assert set(found.left) == beside
    assert not found.missing
    assert not found.wrong


@given(st.sets(NAMES, min_size=1))
def test_a_network_whose_own_names_begin_with_a_prefix(own: set[str]) -> None:
    model = {f"model.{name}": torch.zeros(1) for name in own}
    assert fit(State(dict(model)), model).prefix == ""
    wrapped = fit(State({f"module.{name}": value for name, value in model.items()}), model)
    assert (wrapped.prefix, set(wrapped.tensors)) == ("module.", set(model))


@pytest.mark.parametrize(
    ("wrap", "wrapper", "prefix"),
    [
        (lambda state: state, "", ""),
        (lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}}, "state_dict", "model."),
        (lambda state: {"model": {"state_dict": state}, "epoch": 3}, "model.state_dict", ""),
        (
            lambda state: {"net": {f"module._orig_mod.{key}": value for key, value in state.items()}},
            "net",
            "module._orig_mod.",
        ),
    ],
)
def test_wrappers_are_taken_off_and_said(tmp_path: Path, wrap: object, wrapper: str, prefix: str) -> None:
    source, target = network(), network()
    torch.save(wrap(source.state_dict()), tmp_path / "w.ckpt")  # type: ignore[operator]
    found = load_as_it_is(target, read_weights(tmp_path / "w.ckpt"), "w.ckpt")
    assert (found.wrapper, found.prefix) == (wrapper, prefix)
    assert all(part in found.described for part in (wrapper, prefix))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_a_missing_tensor_is_an_error_and_a_counter_is_not(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pth")
    load_as_it_is(network(), read_weights(tmp_path / "w.pth"), "w.pth")
    del state["1.running_var"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"missing: 1.running_var"):
        load_as_it_is(network(), read_weights(tmp_path / "w.pth"), "w.pth")


def test_what_is_no_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"do not contain a mapping of names to tensors \(its keys: epoch, lr\)"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {1: state["0.weight"]}, "name a tensor 1, but names are text"),
        (lambda state: state | {"2.bias": state["2.bias"] / 0}, r"NaN or infinity in 1 of 9 tensors \(2.bias\)"),
        (lambda state: state | {"2.bias": (state["2.bias"] / 0).half()}, r"NaN or infinity in 1 of 9 tensors"),
    ],
)
def test_tensors_that_no_network_takes_are_named(tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(network().state_dict()), tmp_path / "a.pth")
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "a.pth")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    state = network().state_dict()
    state |= {key: (value * 100).to(torch.int8) for key, value in state.items() if value.ndim == 2}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"0.weight int8 instead of float32, 2.weight int8"):
        load_as_it_is(network(), read_weights(tmp_path / "a.pth"), "a.pth")


def test_a_file_that_is_cut_off_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    with pytest.raises(DataError, match=r"cannot be read safely \(EOFError, as of a file that is cut off\)"):
        read_weights(tmp_path / "a.pth")
