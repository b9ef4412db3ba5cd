import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fqbench.data import synthfaces
from fqbench.data.synthfaces import SynthfacesOptions, dataset, draw, draw_batch
from fqbench.data.synthfaces.painting import paint_faces
from fqbench.data.synthfaces.traits import GROUPS, SHARES, Draws, draw_people, draw_traits, group_shares, spread_groups
from fqbench.errors import InputError


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    draw(SynthfacesOptions(images=30, test_images=10, size=32, seed=3), out)
    return out


def test_a_drawn_folder_is_an_imagefolder(drawn: Path) -> None:
    with (drawn / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file_name", "split", "smiling", "skin_tone", "age_group", "gender_presentation"]
    assert [row["file_name"] for row in rows] == [
        *(f"images/{index:06d}.png" for index in range(30)),
        *(f"test/{index:06d}.png" for index in range(10)),
    ]
    assert {row["smiling"] for row in rows} == {"0", "1"}
    for feature, names in GROUPS.items():
        assert {row[feature] for row in rows} <= set(names)
    with Image.open(drawn / rows[-1]["file_name"]) as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_the_same_seed_gives_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw(SynthfacesOptions(images=30, test_images=10, size=32, seed=3), tmp_path)
    assert tree(tmp_path) == tree(drawn)


def test_another_seed_gives_other_pictures(drawn: Path, tmp_path: Path) -> None:
    draw(SynthfacesOptions(images=30, test_images=10, size=32, seed=4), tmp_path)
    ours, theirs = tree(tmp_path), tree(drawn)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if ours[name] == theirs[name]]


def test_the_pictures_of_a_shorter_run_are_the_first_of_a_longer(drawn: Path, tmp_path: Path) -> None:
    draw(SynthfacesOptions(images=7, test_images=5, size=32, seed=3), tmp_path)
    shorter, longer = tree(tmp_path), tree(drawn)
    assert len(shorter) == 13
    assert all(longer[name] == content for name, content in shorter.items() if name.endswith(".png"))


def test_threads_change_nothing(drawn: Path, tmp_path: Path) -> None:
    draw(SynthfacesOptions(images=30, test_images=10, size=32, seed=3), tmp_path, threads=5)
    assert tree(tmp_path) == tree(drawn)


def test_no_picture_is_drawn_twice(drawn: Path) -> None:
    pictures = [content for name, content in tree(drawn).items() if name.endswith(".png")]
    assert len(set(pictures)) == len(pictures) == 40


@pytest.mark.parametrize("size", [32, 64, 100])
def test_a_picture_does_not_depend_on_its_batch(size: int) -> None:
    options = SynthfacesOptions(size=size, seed=11)
    together, people = draw_batch(options, 0, 24)
    for index in range(24):
        alone, person = draw_batch(options, index, index + 1)
        np.testing.assert_array_equal(alone[0], together[index])
        assert person.smiling[0] == people.smiling[index]


@pytest.mark.parametrize("size", [32, 256, 512])
def test_every_size_shows_the_same_face(size: int) -> None:
    reference, _ = draw_batch(SynthfacesOptions(size=64, seed=2), 0, 2)
    pictures, _ = draw_batch(SynthfacesOptions(size=size, seed=2), 0, 2)
    assert pictures.shape == (2, size, size, 3)
    assert pictures.dtype == np.uint8
    for picture, expected in zip(pictures, reference, strict=True):
        small = [
            np.asarray(Image.fromarray(p).resize((16, 16), Image.Resampling.BOX), float) for p in (picture, expected)
        ]
        assert np.abs(small[0] - small[1]).mean() < 6


def test_progress_counts_pictures(tmp_path: Path) -> None:
    seen: list[int] = []
    draw(SynthfacesOptions(images=70, test_images=20, size=32), tmp_path, seen.append)
    assert seen[-1] == 90
    assert seen == sorted(set(seen))


def test_read_gives_named_classes_and_the_notice(drawn: Path) -> None:
    samples = synthfaces.read(drawn)
    assert samples.name == "synthfaces"
    assert samples.classes == ("not smiling", "smiling")
    assert samples.sensitive_features == ("skin_tone", "age_group", "gender_presentation")
    assert samples.notice == synthfaces.NOTICE
    assert samples.digest == synthfaces.read(drawn).digest


def population(imbalance: float, count: int = 3000) -> dict[str, np.ndarray]:
    people = draw_people(Draws(0, range(count)), imbalance)
    return {name: np.bincount(getattr(people, name)) / count for name in ("smiling", *GROUPS)}


def test_groups_follow_the_imbalance() -> None:
    even, real = population(0.0), population(1.0)
    for feature, shares in SHARES.items():
        np.testing.assert_allclose(even[feature], 1 / len(shares), atol=0.035)
        np.testing.assert_allclose(real[feature], shares, atol=0.035)
        assert group_shares(feature, 2.0).min() < group_shares(feature, 1.0).min() < group_shares(feature, 0.0).min()
    assert real["smiling"][1] == pytest.approx(0.5, abs=0.06)


@settings(max_examples=30, deadline=None)
@given(imbalance=st.floats(0, 4), feature=st.sampled_from(sorted(SHARES)))
def test_shares_sum_to_one_and_leave_no_group_out(imbalance: float, feature: str) -> None:
    shares = group_shares(feature, imbalance)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()


def test_every_group_is_in_every_split(tmp_path: Path) -> None:
    pool, test = draw_people(Draws(0, range(2400)), 1.0), draw_people(Draws(1, range(500)), 0.0)
    dataset._write_metadata(tmp_path / "metadata.csv", [pool], [test], seed=0)
    with (tmp_path / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = Counter((row["split"], *(row[feature] for feature in GROUPS)) for row in rows)
    assert len(groups) == 3 * 18
    assert Counter(row["split"] for row in rows) == {"train": 2100, "val": 300, "test": 500}
    assert all(row["file_name"].startswith("test/") == (row["split"] == "test") for row in rows)


def groups_of_test_images(options: SynthfacesOptions, count: int) -> Counter[tuple[int, ...]]:
    _, people = dataset._people(options, 0, count, "test")
    return Counter(zip(*(getattr(people, feature).tolist() for feature in GROUPS), strict=True))


@pytest.mark.parametrize("count", [90, 1800])
def test_the_test_split_has_every_group_alike_though_training_does_not(count: int) -> None:
    counts = groups_of_test_images(SynthfacesOptions(seed=4), count)
    assert len(counts) == 18
    assert max(counts.values()) - min(counts.values()) <= 3


def test_the_test_split_is_weighted_as_asked() -> None:
    counts = groups_of_test_images(SynthfacesOptions(test_imbalance=1.0), 3000)
    for values, count in counts.items():
        share = np.prod([SHARES[feature][value] for feature, value in zip(GROUPS, values, strict=True)])
        assert count == pytest.approx(3000 * share, abs=3)


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 10**6), count=st.integers(18, 400), seed=st.integers(0, 99), imbalance=st.floats(0, 2))
def test_any_run_of_test_images_has_nearly_exact_shares(start: int, count: int, seed: int, imbalance: float) -> None:
    groups = spread_groups(seed, range(start, start + count), imbalance)
    for feature in GROUPS:
        shares = group_shares(feature, imbalance)
        found = np.bincount(groups[feature], minlength=len(shares))
        # A value of the last feature occurs in nine arcs of the circle, each within two images of its share.
        np.testing.assert_allclose(found, count * shares, atol=18)


def test_two_and_a_half_times_as_many_test_images_by_default() -> None:
    assert SynthfacesOptions(images=51).count("test") == 127
    assert SynthfacesOptions(images=50, test_images=7).count("test") == 7


def test_within_a_group_the_test_split_smiles_as_the_training_split_does() -> None:
    def smiles(part: dataset.Part) -> np.ndarray:
        _, people = dataset._people(SynthfacesOptions(), 0, 4000, part)
        return np.array([people.smiling[people.gender_presentation == value].mean() for value in (0, 1)])

    np.testing.assert_allclose(smiles("images"), smiles("test"), atol=0.05)
    assert smiles("test")[0] > smiles("test")[1] + 0.05


def test_a_smile_shows_at_the_mouth() -> None:
    """Draw the same 48 people smiling and not, and compare where the pictures differ."""
    size = 64
    indices = range(48)
    pictures = []
    for smiling in (0, 1):
        draws = Draws(5, indices)
        people = draw_people(draws, 1.0)
        people.smiling[:] = smiling
        pictures.append(paint_faces(draw_traits(draws, people), draws, size).astype(float))
    difference = np.abs(pictures[1] - pictures[0]).mean(axis=(0, 3))
    rows, columns = np.mgrid[:size, :size]
    mouth = (np.abs(rows - 46) < 8) & (np.abs(columns - 32) < 14)
    assert difference[mouth].mean() > 4
    assert difference[mouth].mean() > 5 * difference[~mouth].mean()


def test_darker_skin_gives_a_fainter_smile() -> None:
    def strength(skin_tone: int) -> float:
        pictures = []
        for smiling in (0, 1):
            draws = Draws(6, range(48))
            people = draw_people(draws, 0.0)
            people.smiling[:] = smiling
            people.skin_tone[:] = skin_tone
            pictures.append(paint_faces(draw_traits(draws, people), draws, 64).astype(float))
        return float(np.abs(pictures[1] - pictures[0])[:, 38:54, 18:46].mean())

    assert strength(0) > strength(1) > strength(2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images", 0),
        ("images", 2.5),
        ("images", True),
        ("test_images", 0),
        ("test_imbalance", 5),
        ("size", 31),
        ("size", 513),
        ("imbalance", -0.1),
        ("imbalance", float("nan")),
        ("imbalance", "1"),
        ("seed", -1),
    ],
)
def test_options_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(
        InputError, match=rf"^synthfaces: {field} is .*, but must be a .*number from .*; choose one.*\.$"
    ):
        SynthfacesOptions(**{field: value})  # type: ignore[arg-type]


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is not a folder, so .*; create it first\."):
        draw(SynthfacesOptions(images=1), tmp_path / "nowhere")
