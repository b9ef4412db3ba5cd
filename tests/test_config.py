"""Flags over a file over defaults; what is misspelt or out of range is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fqbench.config import Config, Preprocessing, configure, options, vary
from fqbench.errors import InputError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no ./fqbench.yaml lies about."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: Path, **sections: object) -> Path:
    file.write_text(yaml.safe_dump(sections))
    return file


def test_defaults_make_an_experiment_on_synthfaces() -> None:
    config = configure()
    assert config == Config()
    assert (config.data.name, config.quantize.backend, config.quantize.bits) == ("synthfaces", "ort", 8)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(empty_folder: Path) -> None:
    file = write(empty_folder / "mine.yaml", quantize={"bits": 4, "calib": "random"}, train={"epochs": 2})
    config = configure(file, bits=8, calib=None)
    assert (config.quantize.bits, config.quantize.calib, config.train.epochs) == (8, "random", 2)


def test_file_in_the_working_directory_is_read_unless_another_is_named(empty_folder: Path) -> None:
    write(empty_folder / "fqbench.yaml", train={"epochs": 9})
    assert configure().train.epochs == 9
    assert configure(write(empty_folder / "other.yaml", train={"epochs": 3})).train.epochs == 3


def test_empty_file_is_all_defaults(empty_folder: Path) -> None:
    (empty_folder / "empty.yaml").write_text("# nothing yet\n")
    assert configure(empty_folder / "empty.yaml") == Config()


def test_every_flag_reaches_an_option_that_exists() -> None:
    for name, option in options().items():
        default = getattr(getattr(Config(), option.section), option.field)
        if default is not None:
            assert getattr(getattr(configure(**{name: default}), option.section), option.field) == default


def test_every_option_has_a_help_text_and_a_flag_unless_it_is_marked() -> None:
    shown = {(option.section, option.field) for option in options().values()}
    hidden = []
    for section, part in Config.model_fields.items():
        if section == "backends":
            continue  # its options are the backends' own, and described there
        assert part.title, section
        assert part.description, section
        for field, info in type(getattr(Config(), section)).model_fields.items():
            assert info.description, f"{section}.{field}"
            hidden += [] if (section, field) in shown else [f"{section}.{field}"]
    assert hidden == ["eval.seed", "eval.threads", "eval.batch_size", "bench.seed"]


def test_lists_and_choices_follow_from_the_type() -> None:
    found = options()
    assert found["age_groups"].is_list
    assert found["augment"].is_list
    assert found["augment"].choices == ("flip", "crop", "colour")
    assert not found["bits"].is_list
    assert found["bits"].choices == (32, 8, 4, 2)
    assert found["calib_by"].spelled == "--calib-by"
    assert configure(mean="0.5, 0.4,0.3").preprocessing.mean == (0.5, 0.4, 0.3)


def test_what_is_configured_survives_yaml(empty_folder: Path) -> None:
    config = configure(bits=4, sensitive=("tone", "age"), onnx=Path("m.onnx"), mean=(0.5, 0.5, 0.5), batch=3)
    file = empty_folder / "dump.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert configure(file) == config


def test_options_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().quantize.bits = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"bitz": 8}, "unknown option 'bitz': did you mean 'bits'"),
        ({"bits": 7}, r"--bits: .*not 7; see --help-all"),
        ({"confidence": 1.5}, r"--confidence: .*less than 1, not 1.5"),
        ({"calib_n": 0}, r"--calib-n: .*not 0"),
        ({"split": "tset"}, r"--split: .*not 'tset'"),
        ({"epochs": "many"}, r"--epochs: .*not 'many'"),
        ({"rounds": 1}, r"--rounds: .*not 1"),
        ({"mean": (0.5, 0.5)}, r"--mean: "),
    ],
)
def test_wrong_flag_is_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        configure(**flags)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantize: {bitz: 8}", r"unknown option 'quantize.bitz' in .*c\.yaml: did you mean 'bits'"),
        ("quantise: {bits: 8}", r"unknown option 'quantise' in .*c\.yaml: did you mean 'quantize'"),
        ("quantize: {bits: 7}", r"--bits in .*c\.yaml: "),
        ("bits: 8", r"c\.yaml must hold sections of options; the sections are: data, model"),
        ("- bits", r"must hold sections of options"),
        ("quantize:", r"must hold sections|quantize"),
        ("a: [", r"c\.yaml is not YAML"),
    ],
)
def test_wrong_file_is_named(empty_folder: Path, text: str, message: str) -> None:
    file = empty_folder / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        configure(file)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_text_is_named(empty_folder: Path) -> None:
    (empty_folder / "c.yaml").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(InputError, match=r"c\.yaml is not YAML"):
        configure(empty_folder / "c.yaml")


def test_missing_file_is_named(empty_folder: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read .No such file or directory.; check --config"):
        configure(empty_folder / "nowhere.yaml")


def test_wrong_default_file_is_named_like_any_other(empty_folder: Path) -> None:
    write(empty_folder / "fqbench.yaml", quantize={"bits": 7})
    with pytest.raises(InputError, match=r"--bits in fqbench\.yaml"):
        configure()


def test_wrong_flag_is_not_blamed_on_the_file(empty_folder: Path) -> None:
    file = write(empty_folder / "c.yaml", train={"epochs": 2})
    with pytest.raises(InputError, match=r"^--bits: "):
        configure(file, bits=7)


@pytest.mark.parametrize("crop", [0, 1.1])
def test_crop_is_a_share(crop: float) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(crop=crop)


def test_a_variation_changes_what_it_names_and_nothing_else(empty_folder: Path) -> None:
    config = configure(backend="trt", root=Path("photos"), mean=(0.5, 0.5, 0.5))
    varied = vary(vary(config, "quantize", bits=4, calib_by=("age",)), "train", seed=3)
    assert (varied.quantize.backend, varied.quantize.bits, varied.quantize.calib_by) == ("trt", 4, ("age",))
    assert (varied.train.seed, varied.data, varied.preprocessing) == (3, config.data, config.preprocessing)
    assert config == configure(backend="trt", root=Path("photos"), mean=(0.5, 0.5, 0.5))
    assert vary(varied, "quantize", bits=config.quantize.bits, calib_by=None).quantize == config.quantize


def test_a_variation_keeps_what_was_said_apart_from_defaults() -> None:
    said = vary(configure(device="cpu"), "quantize", bits=8)
    assert "device" in said.bench.model_fields_set
    assert said.quantize.model_fields_set == {"bits"}
    assert "device" not in vary(configure(), "quantize", bits=8).bench.model_fields_set


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("quantize", {"bitz": 8}, "unknown option 'quantize.bitz': did you mean 'bits'"),
        ("quantize", {"bits": 5}, r"--bits: .*not 5; see --help-all"),
        ("data", {"name": None}, r"--data: "),
        ("eval", {"seed": -1}, r"eval\.seed: .*not -1"),
        ("quantise", {"bits": 8}, "unknown option 'quantise': did you mean 'quantize'"),
    ],
)
def test_a_variation_is_validated_like_any_configuration(
    section: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        vary(Config(), section, **options)
    assert "\n" not in str(caught.value)
