"""Small labelled pictures, and one thread: several test processes share the cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fqbench.config import Preprocessing
from fqbench.data.images import PreparedImages
from fqbench.models.batches import LabelledImages

GROUPS = ("few", "many")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bright() -> Callable[..., LabelledImages]:
    """Make pictures whose brightness is the label; a tenth of them are in the group "few"."""

    def make(count: int = 60, *, seed: int = 0, size: int = 16, noise: float = 40.0) -> LabelledImages:
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        level = np.where(labels == 1, 170, 90)[:, None, None, None]
        pixels = np.clip(rng.normal(level, noise, (count, size, size, 3)), 0, 255).astype(np.uint8)
        names = np.array([str(index) for index in range(count)])
        store = PreparedImages(pixels, names, Preprocessing(size=size))
        groups = (np.arange(count) >= count // 10).astype(np.int64)
        return LabelledImages(store, np.arange(count), labels.astype(np.int64), groups, GROUPS)

    return make
