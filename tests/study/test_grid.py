"""From a file to cells: what the axes give, ids before any work, and every wrong file in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.errors import FqbenchError, InputError
from fqbench.run import Run
from fqbench.study.cells import Phase
from fqbench.study.check import check_cells
from fqbench.study.file import Grid, Selection, Study, Variant, read_study
from fqbench.study.grid import cells_of
from fqbench.study.opening import open_study
from fqbench.workspace import Workspace

Write = Callable[..., Path]


def study_of(**grid: Any) -> Study:
    return Study(name="one", grid=Grid.model_validate({"models": ["resnet10t"], **grid}))


def test_every_combination_is_a_cell_and_baselines_come_first() -> None:
    study = study_of(models=["resnet10t", "resnet18"], seeds=[0, 1], methods=["ptq_static", "qat"], bits=[8, 4, 2])
    cells = cells_of(study)
    assert [cell.phase for cell in cells] == [Phase.BASELINES] * 4 + [Phase.METHODS] * 24
    assert len({cell.id for cell in cells}) == len(cells)
    static = next(cell for cell in cells if cell.name.startswith("synthfaces/resnet18/seed1/ort/ptq_static/int2"))
    assert (static.config.model.name, static.config.train.seed, static.config.quantize.bits) == ("resnet18", 1, 2)
    assert static.baseline.quantize.method == "none"
    assert static.baseline.train.seed == 1


def test_a_method_that_calibrates_nothing_has_no_sampler_and_no_policy() -> None:
    study = study_of(
        methods=["ptq_static", "ptq_dynamic"], samplers=["random", "balanced"], policies=["as-sampled", "minimax"]
    )
    cells = [cell.coordinates for cell in cells_of(study) if cell.phase is Phase.METHODS]
    ways = {(cell.sampler, cell.policy) for cell in cells if cell.method == "ptq_static"}
    assert ways == set(product(["random", "balanced"], ["as-sampled", "minimax"]))
    assert [(cell.sampler, cell.policy) for cell in cells if cell.method == "ptq_dynamic"] == [("", "")]


def test_a_mitigation_is_applied_where_it_says_with_the_first_sampler_and_policy() -> None:
    where = {"method": "ptq_static", "bits": 4}
    study = study_of(
        methods=["ptq_static", "ptq_dynamic"],
        bits=[8, 4],
        samplers=["random", "balanced"],
        mitigations=[{"name": "float_head", "where": where}, "balanced_calibration", "equalized_odds_thresholds"],
    )
    found: dict[str, list[Any]] = {}
    for cell in cells_of(study):
        if cell.phase is Phase.MITIGATION:
            found.setdefault(cell.coordinates.mitigation, []).append(cell)
    (kept,) = found["float_head"]
    assert (kept.coordinates.bits, kept.coordinates.sampler, kept.config.quantize.keep_float) == (
        4,
        "random",
        ("head",),
    )
    assert {cell.coordinates.method for cell in found["balanced_calibration"]} == {"ptq_static"}
    assert {cell.config.quantize.calib for cell in found["balanced_calibration"]} == {"balanced"}
    thresholds = found["equalized_odds_thresholds"]
    assert {(cell.decides, cell.constraint) for cell in thresholds} == {(True, "equalized_odds")}
    assert len(thresholds) == 4


def test_a_training_mitigation_is_compared_with_the_plain_baseline() -> None:
    study = study_of(mitigations=["group_balanced_training"])
    cell = next(cell for cell in cells_of(study) if cell.phase is Phase.MITIGATION)
    assert cell.config.train.objective == "group-balanced"
    assert cell.baseline.train.objective == "erm"


def test_an_id_depends_on_the_options_and_on_the_contents_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("bits: 4\n", encoding="utf-8")
    variant = Variant(name="own", quantize={"recipe": "own.yaml"})
    study = Study(name="one", grid=Grid(models=(Variant(name="resnet10t"),), methods=(variant,)), folder=tmp_path)
    (baseline, first) = cells_of(study)
    assert first.coordinates.bits == 4
    before, kept = first.id, baseline.id
    recipe.write_text("bits: 4\nrange_rule: mse\n", encoding="utf-8")
    (baseline, second) = cells_of(study)
    assert (baseline.id, second.name) == (kept, first.name)
    assert second.id != before
    other = cells_of(study.model_copy(update={"config": {"train": {"epochs": 9}}}))
    assert not {cell.id for cell in other} & {kept, before, second.id}


@given(
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
    bits=st.lists(st.sampled_from([8, 4, 2]), min_size=1, max_size=3, unique=True),
    out=st.integers(0, 2),
)
def test_an_exclusion_takes_out_exactly_what_it_names(seeds: list[int], bits: list[int], out: int) -> None:
    everything = cells_of(study_of(seeds=seeds, bits=bits))
    exclusion = Selection(bits=(bits[out % len(bits)],), method=("ptq_static",))
    kept = cells_of(study_of(seeds=seeds, bits=bits).model_copy(update={"exclude": (exclusion,)}))
    gone = {cell.id for cell in everything} - {cell.id for cell in kept}
    assert gone == {cell.id for cell in everything if cell.coordinates.bits == exclusion.bits[0]}


def test_debug_makes_every_cell_tiny_and_gives_it_another_id(write_study: Write) -> None:
    study = study_of(models=["resnet10t", "vit_small_patch16_224"], seeds=[0])
    plain, tiny = cells_of(study), cells_of(study, debug=True)
    assert not {cell.id for cell in plain} & {cell.id for cell in tiny}
    assert {cell.config.data.images for cell in tiny} == {160}
    assert {cell.config.train.epochs for cell in tiny} == {1}
    onnx = cells_of(read_study(write_study()), debug=True)
    assert {cell.config.data.name for cell in onnx} == {"folder"}  # its classes are those of its own data


WRONG = {
    "no such axis": ({"grid": {"model": ["x"]}}, "grid.model: Extra inputs are not permitted. did you mean 'models'?"),
    "empty": ({"grid": {"bits": []}}, "grid.bits is empty, so there is no cell"),
    "method": ({"grid": {"methods": ["ptq_statik"]}}, "'ptq_statik' is neither known nor says what it changes"),
    "section": ({"config": {"trian": {}}}, "config.trian: no such section: did you mean 'train'?"),
    "option": ({"config": {"train": {"epoch": 3}}}, "epoch"),
    "bits": ({"grid": {"bits": [3]}, "exclude": []}, "bits"),
    "exclusion": ({"exclude": [{"seed": 7}]}, r"the exclusion \(seed: 7\) matches no cell"),
    "empty exclusion": ({"exclude": [{}]}, "an exclusion is empty"),
    "coordinate": ({"exclude": [{"bit": 8}]}, "did you mean 'bits'?"),
    "everything": ({"exclude": [{"model": "bright"}]}, "everything is excluded"),
    "twice": ({"grid": {"bits": [8, 8]}, "exclude": []}, "two cells are named photos/bright/seed0/ort/ptq_static/int8"),
    "name": ({"name": "a b"}, "name: String should match pattern"),
    "mitigation": ({"grid": {"mitigations": ["balance"]}}, "'balance' is neither known"),
    "mitigates nothing": (
        {"grid": {"mitigations": [{"name": "balanced_calibration", "where": {"bits": 2}}]}},
        r"the mitigation balanced_calibration applies to no cell \(where: bits: 2\)",
    ),
    "no list": ({"grid": {"models": "bright"}}, r"grid.models: Input should be a list, as in \[a, b\], not 'bright'"),
    "no mapping": ({"config": {"train": 5}}, r"config.train: Input should be a mapping, as in {a: b}, not 5"),
    "year": ({"name": 2024}, "name: Input should be a valid string, not 2024"),
    "fraction": ({"grid": {"bits": [8.5]}}, "grid.bits.0: Input should be a valid integer.*, not 8.5"),
    "large seed": ({"grid": {"seeds": [2**40]}}, "--train-seed: Input should be less than 4294967296"),
    "negative seed": ({"grid": {"seeds": [-1]}}, "--train-seed: Input should be greater than or equal to 0"),
}
IMPOSSIBLE = {
    "model": ({"grid": {"models": ["resnet1"]}}, "resnet1"),
    "backend": ({"grid": {"backends": ["orr"]}}, "did you mean 'ort'?"),
    "sampler": ({"grid": {"samplers": ["balance"]}}, "did you mean 'balanced'?"),
    "policy": ({"grid": {"policies": ["minimox"]}}, "minimox"),
    "scheme": ({"exclude": []}, r"ptq_dynamic/int4: .*Or exclude it: - {backend: ort, method: ptq_dynamic, bits: 4}"),
    "seeds": ({"grid": {"seeds": [0, 1]}}, "bright comes trained, so that a seed changes nothing"),
    "training": ({"grid": {"methods": ["qat"]}, "exclude": []}, "cannot be trained with fake quantization"),
    "objective": ({"config": {"train": {"objective": "erm2"}}}, "erm2"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=WRONG)
def test_a_wrong_file_is_refused_in_one_sentence(wrong: str, write_study: Write) -> None:
    parts, message = WRONG[wrong]
    with pytest.raises(InputError, match=message):
        cells_of(read_study(write_study(**parts)))


@pytest.mark.parametrize("wrong", IMPOSSIBLE, ids=IMPOSSIBLE)
def test_a_cell_that_cannot_be_made_is_refused_before_any_work(wrong: str, write_study: Write, tmp_path: Path) -> None:
    parts, message = IMPOSSIBLE[wrong]
    run = Run(workspace=Workspace(tmp_path / "runs"))
    with pytest.raises(FqbenchError, match=message) as caught:
        check_cells(run, cells_of(read_study(write_study(**parts))))
    assert caught.value.exit_code == 2
    assert not list((tmp_path / "runs").glob("*/*/manifest.json"))


def test_a_wrong_option_of_a_cell_names_the_file(write_study: Write, tmp_path: Path) -> None:
    file = write_study(config={"train": {"epochs": -1}})
    with pytest.raises(InputError, match=r"small\.yaml: --epochs: Input should be greater than or equal to 0"):
        open_study(Run(workspace=Workspace(tmp_path / "runs")), file)


def test_words_of_yaml_stay_words_in_a_study(tmp_path: Path) -> None:
    """A class called no, a switch that is off, and a learning rate without a point."""
    file = tmp_path / "words.yaml"
    file.write_text(
        "name: words\ngrid: {models: [resnet10t], "
        "methods: [ptq_static, {name: off, quantize: {bias_correction: off}}]}\n"
        "latency: no\nconfig: {eval: {positive: no}, train: {learning_rate: 1e-3}}\n"
    )
    study = read_study(file)
    cells = cells_of(study)
    assert study.latency is False
    assert {cell.config.eval.positive for cell in cells} == {"no"}
    assert {cell.config.train.learning_rate for cell in cells} == {1e-3}
    assert [cell.config.quantize.bias_correction for cell in cells if cell.coordinates.method == "off"] == ["off"]


def test_a_study_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="must hold name, grid, exclude and config"):
        read_study(tmp_path / "list.yaml")


@pytest.mark.parametrize("name", ["debug", "small", "seed"])
def test_the_studies_of_the_repository_have_cells(name: str) -> None:
    file = Path(__file__).parents[2] / "studies" / f"{name}.yaml"
    cells = cells_of(read_study(file))
    tiny = cells_of(read_study(file), debug=True)
    assert len(cells) == len(tiny)
    assert len(cells) >= {"debug": 10, "small": 60, "seed": 60}[name]
