from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import time
from itertools import product
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fqbench.errors import DataError, InputError
from fqbench.fairness.counts import Counts, PairedCounts, count, count_paired
from fqbench.fairness.encode import _factorize_fixed_width
from fqbench.testing import strategies as ours

RNG = np.random.default_rng(5)


def slow_table(y_true, y_pred, groups, names, classes):
    table = np.zeros((len(names), len(classes), len(classes)), dtype=np.int64)
    for label, pred, group in zip(y_true, y_pred, groups, strict=True):
        table[names.index(group), classes.index(label), classes.index(pred)] += 1
    return table


@given(ours.counts(classes=3))
def test_counting_gives_the_counts_that_the_arrays_were_made_of(expected):
    if expected.n.sum() == 0:
        return
    got = count(*ours.expand(expected), classes=expected.classes, known_groups=expected.groups)
    assert got == expected


def test_one_pass_equals_a_loop_for_names_of_classes_and_groups():
    names, classes = ["dark×old", "dark×young", "light×old"], ["no", "yes"]
    groups, y_true, y_pred = (RNG.choice(values, 200) for values in (names, classes, classes))
    got = count(y_true, y_pred, groups)
    assert got.groups == tuple(names)
    assert got.classes == ("no", "yes")
    assert np.array_equal(got.table, slow_table(y_true, y_pred, groups, names, classes))


def _forms():
    texts = ["b", "a", "b", "c"]
    return {
        "list": texts,
        "tuple": tuple(texts),
        "array": np.asarray(texts),
        "objects": np.asarray(texts, dtype=object),
        "column": np.asarray(texts)[:, None],
        "series": pd.Series(texts),
        "shifted index": pd.Series(texts, index=[7, 7, 9, 1]),
        "categorical": pd.Series(texts, dtype="category"),
        "named": pd.Series(texts, name="skin"),
        "frame": pd.DataFrame({"skin": texts}),
        "mapping": {"skin": texts},
    }


@pytest.mark.parametrize("form", list(_forms()))
def test_every_form_of_groups_is_understood(form):
    got = count([0, 1, 1, 0], [0, 1, 0, 0], _forms()[form])
    assert got.groups == ("a", "b", "c")
    assert got.table.tolist() == [[[0, 0], [0, 1]], [[1, 0], [1, 0]], [[1, 0], [0, 0]]]
    assert got.features == (("skin",) if form in {"named", "frame", "mapping"} else ())


@pytest.mark.parametrize("dtype", [int, np.int8, np.uint64, float, bool, object])
def test_labels_of_any_kind_are_the_classes_0_and_1(dtype):
    got = count(np.array([0, 1, 1], dtype=dtype), np.array([0, 0, 1], dtype=dtype), ["a"] * 3)
    assert got.classes == ("0", "1")
    assert got.table.tolist() == [[[1, 0], [1, 1]]]


@pytest.mark.parametrize("value", [0, 1])
def test_labels_of_one_value_still_have_two_classes(value):
    got = count([value] * 3, [value] * 3, ["a"] * 3)
    assert got.classes == ("0", "1")
    assert got.table[0, value, value] == 3 == got.table.sum()


def test_integers_index_names_and_are_matched_with_integers():
    assert count([1, 0], [1, 1], ["a", "a"], classes=["no", "yes"]).table.tolist() == [[[0, 1], [0, 1]]]
    assert count([10, 9], [10, 10], ["a", "a"], classes=[9, 10]).classes == ("9", "10")
    assert count([10, 9], [10, 10], ["a", "a"]).classes == ("9", "10")  # by number, not by text


def test_groups_are_intersections_in_order_and_features_are_kept():
    frame = pd.DataFrame({"skin": ["d", "l", "d"], "age": [30, 4, 4]})
    got = count([0, 1, 1], [0, 1, 1], frame)
    assert got.groups == ("d×4", "d×30", "l×4")
    assert got.features == ("skin", "age")
    assert got.marginal("skin").groups == ("d", "l")
    assert got.marginal("age").n.tolist() == [2, 1]


def test_an_empty_text_is_a_group_like_any_other():
    got = count([0, 1], [0, 1], {"a": ["", "x"], "b": ["y", "y"]})
    assert got.groups == ("×y", "x×y")


def test_known_groups_keep_their_order_and_empty_rows():
    got = count([0, 1], [0, 1], ["b", "a"], known_groups=["b", "empty", "a"])
    assert got.groups == ("b", "empty", "a")
    assert got.n.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y_pred": [0]}, InputError, "y_true has 2 rows and y_pred has 1"),
        ({"groups": ["a"]}, InputError, "labels have 2 rows and the groups have 1"),
        ({"y_true": [], "y_pred": [], "groups": []}, DataError, "y_true is empty"),
        ({"y_true": [0, float("nan")]}, DataError, "y_true has 1 missing values, the first in row 1"),
        ({"groups": ["a", None]}, DataError, "groups has 1 missing values"),
        ({"groups": {"skin": ["a", None]}}, DataError, "'skin' has 1 missing values"),
        ({"groups": {}}, InputError, "no sensitive feature"),
        ({"groups": {"f": ["a×b", "c"], "g": ["x", "y"]}}, InputError, "'f' contains '×'"),
        ({"y_pred": [0.2, 0.9]}, InputError, "y_pred holds fractions"),
        ({"y_pred": ["yes", "yes"], "y_true": ["yes", "yes"]}, DataError, "only the class 'yes' occurs"),
        ({"classes": ["no", "yes"], "y_true": [0, 2]}, InputError, "y_true holds 2, but labels are indices"),
        ({"classes": ["no", "yes"], "y_true": [0, -1]}, InputError, "y_true holds -1"),
        ({"classes": [5, 6]}, InputError, "'0', which is not one of the classes: 5, 6"),
        ({"classes": ["no"]}, InputError, "two or more different names"),
        ({"known_groups": ["a", "bb"]}, InputError, "group 'b' is new: did you mean 'bb'"),
        ({"y_true": np.zeros((2, 2))}, InputError, r"one-dimensional.*\(2, 2\)"),
    ],
)
def test_wrong_input_is_named(change, error, message):
    given_ = {"y_true": [0, 1], "y_pred": [0, 1], "groups": ["a", "b"]} | change
    with pytest.raises(error, match=message):
        count(**given_)


def test_too_many_values_are_refused_before_memory_is_taken():
    values = np.arange(20_000)
    with pytest.raises(InputError, match="give fewer groups or classes"):
        count(values, values, np.zeros(20_000, dtype=int))
    with pytest.raises(InputError, match="give groups, not measurements"):
        count(values % 2, values % 2, {"a": values, "b": values})


@given(ours.paired_counts(classes=3))
def test_a_pair_holds_both_models_counts(paired):
    group, label, first, second = (np.repeat(a.ravel(), paired.table.ravel()) for a in np.indices(paired.table.shape))
    if not len(group):
        return
    names = np.asarray(paired.groups)[group]
    options = {"classes": paired.classes, "known_groups": paired.groups}
    assert count_paired(label, first, second, names, **options) == paired
    assert paired.reference == count(label, first, names, **options)
    assert paired.candidate == count(label, second, names, **options)
    assert paired.binary("2").reference == paired.reference.binary("2")
    assert paired.binary("0").candidate == paired.candidate.binary("0")


@given(ours.counts(classes=3), st.sampled_from("012"))
def test_one_against_rest_is_counting_with_the_rest_as_one_class(counts, positive):
    if counts.n.sum() == 0:
        return
    y_true, y_pred, groups = ours.expand(counts)
    hit = int(positive)
    expected = count(y_true == hit, y_pred == hit, groups, known_groups=counts.groups)
    assert np.array_equal(counts.binary(positive).table, expected.table)
    assert counts.binary(positive).classes == (f"not {positive}", positive)


def test_the_positive_class_comes_last():
    counts = Counts(("a",), ("no", "yes"), np.array([[[1, 2], [3, 4]]]))
    assert counts.binary() == counts
    assert counts.binary("no").table.tolist() == [[[4, 3], [2, 1]]]
    assert counts.binary("no").classes == ("yes", "no")
    with pytest.raises(InputError, match="no class 'yess': did you mean 'yes'"):
        counts.binary("yess")
    with pytest.raises(InputError, match="name the positive class: one of a, b, c"):
        Counts((), ("a", "b", "c"), np.zeros((0, 3, 3), dtype=int)).binary()


def test_within_a_control_feature_are_the_groups_of_the_rest():
    groups = tuple("×".join(parts) for parts in product("dl", "om", "xy"))
    counts = Counts(groups, ("0", "1"), np.arange(32).reshape(8, 2, 2), ("skin", "age", "sex"))
    parts = counts.within("age")
    assert list(parts) == ["o", "m"]
    assert parts["m"].groups == ("d×x", "d×y", "l×x", "l×y")
    assert np.array_equal(parts["m"].table, counts.table[[2, 3, 6, 7]])
    assert sum(part.n.sum() for part in parts.values()) == counts.n.sum()
    with pytest.raises(InputError, match="no feature 'agee': did you mean 'age'"):
        counts.within("agee")
    with pytest.raises(InputError, match="only feature"):
        counts.marginal("age").within("age")


@given(ours.counts(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(counts, random):
    y_true, y_pred, groups = ours.expand(counts)
    if not len(groups):
        return
    order = list(range(len(groups)))
    random.shuffle(order)
    assert count(y_true, y_pred, groups) == count(y_true[order], y_pred[order], groups[order])


@given(ours.counts(), ours.counts())
def test_merging_is_counting_together(first, second):
    together = [np.concatenate(parts) for parts in zip(ours.expand(first), ours.expand(second), strict=True)]
    merged = first.merge(second)
    assert merged == second.merge(first).select(merged.groups)
    if len(together[0]):
        assert merged == count(*together, known_groups=merged.groups)
    with pytest.raises(InputError, match="same classes"):
        first.merge(second.binary("0"))


@given(ours.counts(), ours.counts(), st.integers(1, 4), st.integers(0, 99))
def test_shards_counted_apart_give_the_figures_of_the_whole(first, second, shards, seed):
    y_true, y_pred, groups = (
        np.concatenate(parts) for parts in zip(ours.expand(first), ours.expand(second), strict=True)
    )
    if not len(groups):
        return
    rng = np.random.default_rng(seed)
    other = np.where(rng.random(len(y_pred)) < 0.2, rng.permutation(y_pred), y_pred)
    known, shard = sorted(set(groups.tolist())), rng.integers(0, shards, len(groups))
    every = {"known_groups": known, "classes": first.classes}
    parts = [np.flatnonzero(shard == one) for one in range(shards) if (shard == one).any()]
    counted = [count_paired(y_true[part], y_pred[part], other[part], groups[part], **every) for part in parts]
    merged, whole = counted[0].merge(*counted[1:]), count_paired(y_true, y_pred, other, groups, **every)
    assert merged == whole
    assert merged.candidate == count(y_true, other, groups, **every)


def test_tables_are_read_only_and_checked():
    table = np.zeros((1, 2, 2), dtype=np.int64)
    counts = Counts(("a",), ("0", "1"), table)
    table[0, 0, 0] = 9
    assert counts.table[0, 0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        counts.table[0, 0, 0] = 1
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\)"):
        Counts(("a", "b"), ("0", "1"), table)
    with pytest.raises(InputError, match="shape"):
        PairedCounts(("a",), ("0", "1"), table)
    with pytest.raises(InputError, match="negative"):
        Counts(("a",), ("0", "1"), table - 1)
    with pytest.raises(InputError, match="twice"):
        Counts(("a", "a"), ("0", "1"), np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="one value for each of skin, age"):
        Counts(("a",), ("0", "1"), table, ("skin", "age"))
    assert counts != Counts(("a",), ("0", "1"), table)
    assert len({counts, Counts(("a",), ("0", "1"), np.zeros((1, 2, 2)))}) == 1


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), min_size=1))
def test_fixed_width_strings_are_coded_exactly(texts):
    array = np.asarray(texts)
    if array.dtype.itemsize == 0:
        return
    codes, uniques = _factorize_fixed_width(array)
    assert [uniques[code] for code in codes] == array.tolist()
    assert len(set(uniques)) == len(uniques)


def test_two_strings_of_one_hash_are_told_apart(monkeypatch):
    class Ones:
        def integers(self, *_, size, dtype):
            return np.ones(size, dtype=dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda _: Ones())
    codes, uniques = _factorize_fixed_width(np.array(["ab", "ba", "ab"]))
    assert [uniques[code] for code in codes] == ["ab", "ba", "ab"]


@pytest.mark.slow
def test_two_million_predictions_are_counted_in_half_a_second():
    n = 2_000_000
    names = np.array([f"{skin}×{age}" for skin in "abcdefg" for age in ("young", "old")])
    groups, y_true, y_pred = names[RNG.integers(0, 14, n)], RNG.integers(0, 2, n), RNG.integers(0, 2, n)
    times = []
    for _ in range(3):
        start = time.process_time()
        count(y_true, y_pred, groups)
        times.append(time.process_time() - start)
    assert min(times) < 0.5


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("numpy", "pandas", "scipy", "fairlearn", "statsmodels")
    code = f"import sys, fqbench.fairness; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_doors_are_listed_and_open():
    import fqbench.fairness as door

    for module in pkgutil.iter_modules(door.__path__):  # an imported module must not take a function's place
        importlib.import_module(f"fqbench.fairness.{module.name}")
    assert {"evaluate", "compare", "Counts", "Gap"} <= set(dir(door))
    for name in door.__all__:
        assert not isinstance(getattr(door, name), ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        door.evaluat  # noqa: B018
