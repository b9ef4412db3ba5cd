"""What is said before a search: halves without images, and groups that a half lacks."""

from __future__ import annotations

import numpy as np
import pytest

from fqbench.errors import DataError
from fqbench.search.feasibility import require_two_halves, unseen_groups
from fqbench.search.images import ValidationImages


def halves(counts: dict[str, int]) -> tuple[ValidationImages, ValidationImages]:
    groups = np.repeat(list(counts), list(counts.values()))
    rows = np.arange(len(groups))
    return ValidationImages(None, rows, rows.astype(str), groups, rows % 2).halves(0)  # type: ignore[arg-type]


def test_one_image_per_group_cannot_choose_and_confirm() -> None:
    with pytest.raises(DataError, match=r"has 3 image\(s\), no two of one group, and a search needs one half"):
        require_two_halves(*halves({"dark": 1, "light": 1, "medium": 1}))
    require_two_halves(*halves({"dark": 2, "light": 1}))


def test_groups_that_a_half_lacks_are_named() -> None:
    tested = {"dark": 50, "light": 50, "medium": 50, "unused": 0}
    assert unseen_groups(tested, *halves({"dark": 4, "light": 4, "medium": 4})) == ()
    absent, single = unseen_groups(tested, *halves({"dark": 1, "light": 4}))
    assert absent == "medium: no validation image, so what a trial does there is seen by the verdict alone."
    assert single == "dark: a single validation image, so nothing confirms what it says."
    (many,) = unseen_groups({f"group{number}": 9 for number in range(5)} | {"dark": 9}, *halves({"dark": 4}))
    assert many.startswith("group0, group1, group2 and 2 more: no validation image")
