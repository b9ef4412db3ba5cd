from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fqbench.data.preview import CLASS_COLOURS, contact_sheet
from fqbench.data.samples import Samples
from fqbench.errors import DataError, InputError


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    for index in range(10):
        Image.new("RGB", (20, 30), (25 * index, 0, 0)).save(tmp_path / f"{index}.png")
    names = [f"{index}.png" for index in range(10)]
    frame = pd.DataFrame(
        {
            "sample_id": names,
            "path": names,
            "split": ["train"] * 8 + ["test"] * 2,
            "label": np.arange(10) % 2,
            "age": ["old", "young"] * 5,
            "sex": ["m"] * 3 + ["f"] * 7,
        }
    )
    return Samples("pets", tmp_path, frame, ("no", "yes"), ("age", "sex"), notice="Drawn by a program.")


def test_one_row_a_group_with_its_size(samples: Samples, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    groups = contact_sheet(samples, out)
    assert groups == [("old×f", 3), ("old×m", 2), ("young×f", 4), ("young×m", 1)]
    assert contact_sheet(samples, tmp_path / "age.png", by=["age"], split="test") == [("old", 1), ("young", 1)]
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 4 * 96


def test_borders_show_the_class(samples: Samples, tmp_path: Path) -> None:
    contact_sheet(samples, tmp_path / "sheet.png", by=["age"], tile=32)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = {colour: count for count, colour in sheet.getcolors(100_000) or []}
    for colour in CLASS_COLOURS[:2]:
        rgb = tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
        # Five pictures of each class with borders of 4 pixels, and a patch in the legend.
        assert pixels[rgb] >= 5 * (40**2 - 32**2)


def test_the_same_seed_gives_the_same_bytes(samples: Samples, tmp_path: Path) -> None:
    sheets = []
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        contact_sheet(samples, tmp_path / name, by=["age"], per_group=2, seed=seed)
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_a_row_holds_at_most_per_group(samples: Samples, tmp_path: Path) -> None:
    def width(per_group: int) -> int:
        contact_sheet(samples, tmp_path / "sheet.png", by=["age"], per_group=per_group, tile=96)
        with Image.open(tmp_path / "sheet.png") as sheet:
            return sheet.width

    assert width(5) - width(4) == 96 + 14
    assert width(9) == width(5)


def test_options_out_of_range(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"per_group must be from .*, not 0 and 96; choose values in these ranges\."):
        contact_sheet(samples, tmp_path / "sheet.png", per_group=0)
    with pytest.raises(InputError, match=r"there is no folder .*nowhere to write x.png into; create it first\."):
        contact_sheet(samples, tmp_path / "nowhere" / "x.png")
    with pytest.raises(InputError, match=r"pets has no sensitive feature 'agee': did you mean 'age'\?"):
        contact_sheet(samples, tmp_path / "x.png", by=["agee"])


def test_a_damaged_image_is_named(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3.png cannot be read as an image \(.*\); replace it"):
        contact_sheet(samples, tmp_path / "sheet.png")
