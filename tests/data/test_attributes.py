"""Several columns as labels: attributes of a table, of a folder and of CelebA, and what is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fqbench.config import outputs_named
from fqbench.contracts.task import PredictionTask
from fqbench.data.celeba import read_celeba
from fqbench.data.folder import read_folder
from fqbench.data.inspect import inspect
from fqbench.errors import InputError
from tests.data.trees import write_celeba


def test_columns_of_a_folder_are_attributes(photos: Path) -> None:
    samples = read_folder(photos, label="label,age", sensitive=None, seed=0)
    assert samples.task is PredictionTask.ATTRIBUTES
    assert samples.classes == ("label", "age")
    assert samples.sensitive_features == ("tone",)
    targets = samples.targets(samples.frame)
    for index, one in enumerate(samples.labellings):
        alone = read_folder(photos, label=samples.classes[index], sensitive=["tone"], seed=0)
        assert one.classes == alone.classes
        np.testing.assert_array_equal(one.frame["label"], alone.frame["label"])
        np.testing.assert_array_equal(targets[:, index], alone.frame["label"])
    # The combination, by which splits are drawn and samplers may look: one number for each pair of values.
    pairs = {
        (*row, code) for row, code in zip(targets.tolist(), samples.frame["label"], strict=True) for row in [tuple(row)]
    }
    assert len(pairs) == len({pair[:2] for pair in pairs}) == 4


def test_the_digest_knows_the_attributes(photos: Path) -> None:
    both = read_folder(photos, label="label,age", sensitive=["tone"], seed=0)
    turned = read_folder(photos, label="age,label", sensitive=["tone"], seed=0)
    assert both.digest != turned.digest


def test_celeba_takes_any_attributes(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    samples = read_celeba(root, label="Smiling,Young")
    assert samples.classes == ("Smiling", "Young")
    assert samples.sensitive_features == ("Male",)
    assert samples.attributes[1].classes == ("not Young", "Young")


@pytest.mark.parametrize(
    ("label", "sensitive", "message"),
    [
        ("label,age", ["age"], "age is both an attribute to predict and a sensitive feature; leave it out of --label"),
        ("label,ages", None, "no label column 'ages'"),
        ("label,label", None, "give different names of columns"),
        ("label,", None, "give different names of columns"),
        ("label,file_name", None, "no label column 'file_name'"),
    ],
)
def test_labels_that_do_not_go_together(photos: Path, label: str, sensitive: list[str] | None, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_folder(photos, label=label, sensitive=sensitive, seed=0)


def test_an_attribute_has_two_values(photos: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(photos, tmp_path / "photos"))
    table = (photos / "metadata.csv").read_text().splitlines()
    rows = [f"{line},{('size', 's', 'm', 'l')[(number % 3) + 1 if number else 0]}" for number, line in enumerate(table)]
    (photos / "metadata.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"'size' has 3 values \(l, m, s\), and each of several attributes needs two"):
        read_folder(photos, label="label,size", sensitive=["tone"], seed=0)
    with pytest.raises(InputError, match="--label-threshold divides one label"):
        read_folder(photos, label="label,age", sensitive=["tone"], seed=0, threshold=1.0)


def test_inspection_counts_who_has_an_attribute(photos: Path) -> None:
    samples = read_folder(photos, label="label,age", sensitive=None, seed=0)
    found = inspect(samples)
    has = samples.targets(samples.frame).sum(axis=0)
    assert [sum(found.labels[split][name] for split in found.splits) for name in ("label", "age")] == has.tolist()
    assert found.several
    assert not [problem for problem in found.problems if "class" in problem.what]


def test_one_label_is_asked_for_where_several_make_no_sense(photos: Path) -> None:
    samples = read_folder(photos, label="label,age", sensitive=None, seed=0)
    with pytest.raises(InputError, match=r"replicate needs one label per image.*\(label, age\); choose one of them"):
        samples.require_one_label("replicate")


def test_outputs_by_file(tmp_path: Path) -> None:
    lines, listed, mapped = tmp_path / "names.txt", tmp_path / "names.yaml", tmp_path / "numbers.json"
    lines.write_text("Smiling\n\nHigh Cheekbones\n")
    listed.write_text("[Smiling, High Cheekbones]")
    mapped.write_text('{"Smiling": 31, "Young": 39}')
    assert outputs_named(lines) == outputs_named(listed) == {"Smiling": 0, "High Cheekbones": 1}
    assert outputs_named(mapped) == {"Smiling": 31, "Young": 39}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "must name every output of the model once"),
        ("a.txt", "Smiling\nSmiling\n", "must name every output of the model once"),
        ("a.yaml", "{Smiling: yes}", "must name every output of the model once"),
        ("a.yaml", "{Smiling: 3, Young: 3}", "gives output 3 to Smiling and Young"),
        ("a.yaml", "{Smiling: [", "is not YAML"),
    ],
)
def test_files_of_outputs_that_say_nothing(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        outputs_named(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        outputs_named(tmp_path / f"no-{name}")
