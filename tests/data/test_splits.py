import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fqbench.data.splits import stratified_split

rows = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), min_size=1, max_size=200)


@settings(max_examples=80, deadline=None)
@given(rows=rows, seed=st.integers(0, 1000))
def test_every_group_of_three_is_in_every_split(rows: list[tuple[str, int]], seed: int) -> None:
    groups = np.array([group for group, _ in rows])
    labels = np.array([label for _, label in rows])
    split = stratified_split(groups, labels, seed=seed)
    assert set(split) <= {"train", "val", "test"}
    for group in set(groups):
        members = split[groups == group]
        if len(members) >= 3:
            assert set(members) == {"train", "val", "test"}
        if len(members) >= 10:
            assert abs((members == "test").sum() - 0.2 * len(members)) <= 1
            assert abs((members == "val").sum() - 0.1 * len(members)) <= 1
    np.testing.assert_array_equal(split, stratified_split(groups, labels, seed=seed))


def test_classes_keep_their_share() -> None:
    groups = np.repeat(["a", "b"], [1000, 200])
    labels = np.tile([0, 0, 0, 1], 300)
    split = stratified_split(groups, labels, seed=1)
    for group, size in (("a", 1000), ("b", 200)):
        of_class = (groups == group) & (labels == 1)
        assert abs((split[of_class] == "test").sum() - 0.2 * size / 4) <= 1
        assert abs((split[of_class] == "val").sum() - 0.1 * size / 4) <= 2


def test_groups_of_one_are_divided_too() -> None:
    groups = np.array([f"group {index}" for index in range(1000)])
    split = stratified_split(groups, np.zeros(1000, dtype=np.int64), seed=0)
    assert 150 < (split == "test").sum() < 250
    assert 60 < (split == "val").sum() < 140


def test_another_seed_divides_otherwise() -> None:
    groups, labels = np.repeat("all", 100), np.tile([0, 1], 50)
    assert (stratified_split(groups, labels, seed=0) != stratified_split(groups, labels, seed=1)).any()
