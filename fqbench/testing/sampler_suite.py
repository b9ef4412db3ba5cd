"""The conformance suite of samplers: subclass it in your own tests, and give it your sampler."""

# ruff: noqa: D102 - the name of a test says what must hold, and the message of its assertion what does not
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fqbench.contracts.sampler import Sampler
from fqbench.data.samples import group_labels
from fqbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Images per group (tone, age): uneven, as in real collections, and one group of a single image.
GROUPS = {("light", "young"): 120, ("light", "old"): 60, ("dark", "young"): 19, ("dark", "old"): 1}
FEATURES = ("tone", "age")


class SamplerSuite:
    """What every sampler must do; a subclass named ``Test...`` gives `sampler` and is otherwise empty.

    Examples
    --------
    >>> class TestMySampler(SamplerSuite):
    ...     def sampler(self):
    ...         return MySampler()
    """

    def sampler(self) -> Sampler:
        """Return the sampler under test, a new instance."""
        raise NotImplementedError("a subclass of SamplerSuite must define sampler().")

    @pytest.fixture
    def samples(self) -> pd.DataFrame:
        """200 rows of four groups in shuffled order, with the columns that every data set has."""
        return make_samples(GROUPS, seed=0)

    def draw(self, samples: pd.DataFrame, n: int, by: Sequence[str] = FEATURES, seed: int = 0) -> NDArray[np.int64]:
        """Draw with a generator of its own."""
        return self.sampler().sample(samples, n, by=by, rng=np.random.default_rng(seed))

    def test_it_is_a_sampler(self) -> None:
        sampler = self.sampler()
        assert isinstance(sampler, Sampler), "name and sample are both needed"
        assert isinstance(sampler.name, str), "name must be a str"
        assert sampler.name.isidentifier(), f"name {sampler.name!r} must work as --calib and in file names"

    @pytest.mark.parametrize("by", [(), ("tone",), FEATURES], ids=["no_feature", "one_feature", "intersections"])
    @pytest.mark.parametrize("n", [1, 2, 7, 64, 200])
    def test_it_returns_n_row_positions(self, samples: pd.DataFrame, n: int, by: Sequence[str]) -> None:
        rows = self.draw(samples, n, by)
        assert isinstance(rows, np.ndarray), "positions must come as an array"
        assert rows.dtype == np.int64, f"positions must be int64, not {rows.dtype}"
        assert rows.shape == (n,), f"{n} rows were asked for; the answer has shape {rows.shape}"
        assert ((rows >= 0) & (rows < len(samples))).all(), "positions must be within the table"

    def test_more_than_there_are_is_refused_or_repeats(self, samples: pd.DataFrame) -> None:
        try:
            rows = self.draw(samples, 2 * len(samples))
        except DataError:
            return
        assert rows.shape == (2 * len(samples),), "asked for more rows than there are: repeat some, or raise DataError"
        assert ((rows >= 0) & (rows < len(samples))).all(), "positions must be within the table"

    def test_same_generator_gives_same_rows(self, samples: pd.DataFrame) -> None:
        np.testing.assert_array_equal(self.draw(samples, 40, seed=3), self.draw(samples, 40, seed=3))

    def test_only_the_given_generator_is_used(self, samples: pd.DataFrame) -> None:
        np.random.seed(1)  # noqa: NPY002 - the global generator is what a sampler must leave alone
        untouched = np.random.random()  # noqa: NPY002
        np.random.seed(1)  # noqa: NPY002
        first = self.draw(samples, 40)
        assert np.random.random() == untouched, "numpy's global generator was used"  # noqa: NPY002
        np.testing.assert_array_equal(self.draw(samples, 40), first, "numpy's global generator decides")

    def test_table_is_not_changed(self, samples: pd.DataFrame) -> None:
        before = samples.copy(deep=True)
        self.draw(samples, 40)
        assert list(samples.columns) == list(before.columns), "columns were added or removed"
        assert samples.equals(before), "values were changed"
        assert samples.index.equals(before.index), "the index was changed"

    def test_positions_are_not_index_labels(self, samples: pd.DataFrame) -> None:
        plain = self.draw(samples, 40)
        relabelled = samples.set_axis([f"row {1000 - number}" for number in range(len(samples))], axis=0)
        np.testing.assert_array_equal(self.draw(relabelled, 40), plain, "the index of the table changes the rows")

    def test_features_not_asked_for_do_not_matter(self, samples: pd.DataFrame) -> None:
        rows = self.draw(samples, 40, by=("tone",))
        np.testing.assert_array_equal(self.draw(samples.drop(columns="age"), 40, by=("tone",)), rows)

    def test_rows_of_a_large_enough_table_do_not_repeat(self) -> None:
        roomy = make_samples(dict.fromkeys(GROUPS, 30), seed=1)
        rows = self.draw(roomy, 30)
        assert len(np.unique(rows)) == len(rows), "every group has enough images, and some were drawn twice"

    def test_one_group_is_enough(self) -> None:
        alone = make_samples({("light", "young"): 25}, seed=2)
        assert self.draw(alone, 10).shape == (10,), "a table of a single group must work"

    def test_tiny_groups_work(self) -> None:
        tiny = make_samples(dict.fromkeys(GROUPS, 1), seed=3)
        rows = self.draw(tiny, len(GROUPS))
        assert rows.shape == (len(GROUPS),), "groups of a single image must work"

    def test_order_of_the_table_does_not_bias(self) -> None:
        """Averaged over generators, a group gets as many rows from a sorted table as from a shuffled one."""
        shuffled = make_samples(GROUPS, seed=4)
        ordered = shuffled.sort_values(list(FEATURES)).reset_index(drop=True)
        means = [self._group_shares(table) for table in (shuffled, ordered)]
        np.testing.assert_allclose(means[0], means[1], atol=0.05, err_msg="shares of the groups follow the row order")

    def _group_shares(self, table: pd.DataFrame) -> NDArray[np.float64]:
        labels = group_labels(table, FEATURES)
        names = np.unique(labels)
        drawn = np.concatenate([labels[self.draw(table, 40, seed=seed)] for seed in range(50)])
        return np.array([(drawn == name).mean() for name in names])


def make_samples(groups: dict[tuple[str, str], int], seed: int) -> pd.DataFrame:
    """Return a table of samples with ``groups[tone, age]`` rows per group, shuffled."""
    import pandas as pd

    generator = np.random.default_rng(seed)
    pairs = [pair for pair, count in groups.items() for _ in range(count)]
    order = generator.permutation(len(pairs))
    return pd.DataFrame(
        {
            "sample_id": [f"{number:06d}" for number in range(len(pairs))],
            "path": [f"{number:06d}.png" for number in range(len(pairs))],
            "split": "train",
            "label": generator.integers(2, size=len(pairs)),
            "tone": [pairs[position][0] for position in order],
            "age": [pairs[position][1] for position in order],
        }
    )
