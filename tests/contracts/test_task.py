"""What logits stand for: answers, probabilities and divergences of classes and of attributes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fqbench.contracts.task import PredictionTask, two_classes

LOGITS = arrays.arrays(np.float32, (7, 3), elements=st.floats(-8, 8, width=32))


@given(LOGITS, LOGITS)
def test_an_attribute_is_the_same_as_a_classifier_of_two_classes(first: np.ndarray, second: np.ndarray) -> None:
    """Every figure of several attributes is that of each alone, or their mean."""
    several, alone = PredictionTask.ATTRIBUTES, PredictionTask.CLASSES
    pairs = [(two_classes(first[:, index]), two_classes(second[:, index])) for index in range(3)]
    answers = np.column_stack([alone.answers(one) for one, _other in pairs])
    np.testing.assert_array_equal(several.answers(first), answers)
    divergence = np.mean([alone.divergence(*pair) for pair in pairs], axis=0)
    np.testing.assert_allclose(several.divergence(first, second), divergence, atol=1e-9)
    agreement = np.mean([alone.agreement(*pair) for pair in pairs], axis=0)
    np.testing.assert_allclose(several.agreement(first, second), agreement)
    chances = np.column_stack([alone.probabilities(one)[:, 1] for one, _other in pairs])
    np.testing.assert_allclose(several.probabilities(first), chances, atol=1e-12)


@given(LOGITS)
def test_probabilities_of_attributes_are_sigmoids(logits: np.ndarray) -> None:
    np.testing.assert_allclose(
        PredictionTask.ATTRIBUTES.probabilities(logits), 1 / (1 + np.exp(-logits.astype(np.float64)))
    )
    np.testing.assert_allclose(PredictionTask.ATTRIBUTES.divergence(logits, logits), 0, atol=1e-12)
