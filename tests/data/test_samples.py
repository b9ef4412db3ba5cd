"""The table of samples: names of groups, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fqbench.data.samples import Samples, group_labels
from fqbench.errors import InputError

FRAME = pd.DataFrame(
    {
        "sample_id": list("abcd"),
        "path": list("abcd"),
        "split": ["train", "train", "test", "val"],
        "label": [0, 1, 0, 1],
        "tone": ["dark", "light", "light", "dark"],
        "age": [1, 22, 333, 1],
    }
)
SAMPLES = Samples("faces", Path(), FRAME, ("no", "yes"), ("tone", "age"))


def test_a_group_is_an_intersection_and_no_name_is_cut() -> None:
    assert group_labels(FRAME, ("tone",)).tolist() == ["dark", "light", "light", "dark"]
    assert group_labels(FRAME, ("tone", "age")).tolist() == ["dark×1", "light×22", "light×333", "dark×1"]
    assert group_labels(FRAME, ()).tolist() == ["all"] * 4


def test_the_digest_depends_on_rows_and_classes() -> None:
    other = FRAME.assign(label=[1, 1, 0, 1])
    assert SAMPLES.digest == Samples("faces", Path("/elsewhere"), FRAME.copy(), ("no", "yes"), ("tone", "age")).digest
    assert SAMPLES.digest != Samples("faces", Path(), other, ("no", "yes"), ("tone", "age")).digest
    assert SAMPLES.digest != Samples("faces", Path(), FRAME, ("n", "y"), ("tone", "age")).digest


def test_groups_are_those_of_all_splits() -> None:
    assert set(group_labels(SAMPLES.split("test"), ["tone"])) == {"light"}
    assert SAMPLES.groups(["tone"]) == ("dark", "light")
    assert SAMPLES.groups(["tone", "age"], ("tone", "light")) == ("light×22", "light×333")
    assert SAMPLES.groups([]) == ("all",)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no sensitive feature 'tonne': did you mean 'tone'"):
        SAMPLES.features(["tonne"])
    without = Samples("faces", Path(), FRAME[FRAME["split"] != "val"], ("no", "yes"), ("tone",))
    with pytest.raises(InputError, match="no images in split 'val'"):
        without.split("val")


def test_without_train_images_the_message_says_what_needs_them_and_what_does_not() -> None:
    only = Samples("faces", Path(), FRAME[FRAME["split"] == "test"], ("no", "yes"), ("tone",))
    with pytest.raises(
        InputError, match=r"split test only, and training and calibration need.*--onnx FILE, or --model"
    ):
        only.split("train")
