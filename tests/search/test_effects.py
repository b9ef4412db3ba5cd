"""What a variant changes, image by image, on attributes."""

from __future__ import annotations

import numpy as np

from fqbench.contracts.task import two_classes
from fqbench.search.effects import ImageEffects


def test_effects_on_attributes_are_means_over_them() -> None:
    rng = np.random.default_rng(0)
    reference, logits = (rng.normal(size=(20, 3)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 2, (20, 3))
    found = ImageEffects.of(reference, logits, labels)
    alone = [
        ImageEffects.of(two_classes(reference[:, index]), two_classes(logits[:, index]), labels[:, index])
        for index in range(3)
    ]
    for name, values in found.arrays().items():
        np.testing.assert_allclose(values, np.mean([one.arrays()[name] for one in alone], axis=0))
