"""The random traits of synthfaces: groups, label and looks of each drawn person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CLASSES = ("not smiling", "smiling")
GROUPS = {
    "skin_tone": ("light", "medium", "dark"),
    "age_group": ("young", "middle", "old"),
    "gender_presentation": ("feminine", "masculine"),
}
# Shares like those of collections of celebrity photographs.
SHARES = {
    "skin_tone": (0.60, 0.25, 0.15),
    "age_group": (0.47, 0.33, 0.20),
    "gender_presentation": (0.56, 0.44),
}
STREAM_LENGTH = 144
SPREAD = 0x73707264  # sets the start of the test groups apart from the streams of images
GOLDEN = (5**0.5 - 1) / 2


class Draws:
    """Random numbers for a batch of pictures, one stream per picture, so that a picture does not depend on its batch.

    Each call takes the next number of every picture's stream: the order of the calls is part of the drawing.
    """

    def __init__(self, seed: int, indices: Sequence[int], stream: int = 0) -> None:
        self.generators = [np.random.default_rng((seed, index, stream)) for index in indices]
        self._uniform = np.stack([generator.random(STREAM_LENGTH) for generator in self.generators])
        self._normal = np.stack([generator.standard_normal(STREAM_LENGTH) for generator in self.generators])
        self._next = 0

    def _column(self) -> int:
        self._next += 1
        return self._next - 1

    def uniform(self, low: float | Floats = 0.0, high: float | Floats = 1.0) -> Floats:
        """Draw one number per picture between ``low`` and ``high``."""
        return np.asarray(low + (high - low) * self._uniform[:, self._column()], dtype=np.float32)

    def normal(self, mean: float | Floats, deviation: float | Floats, low: float, high: float) -> Floats:
        """Draw one normal number per picture, clipped to ``low`` and ``high``."""
        return np.clip(mean + deviation * self._normal[:, self._column()], low, high).astype(np.float32)

    def chance(self, probability: float | Floats) -> Floats:
        """Draw 1 with ``probability``, else 0, for each picture."""
        return (self._uniform[:, self._column()] < probability).astype(np.float32)

    def choice(self, shares: Sequence[float]) -> Ints:
        """Draw one index per picture with probabilities ``shares``."""
        edges = np.cumsum(shares)[:-1]
        return np.searchsorted(edges, self._uniform[:, self._column()], side="right").astype(np.int64)

    def noise(self, size: int) -> Floats:
        """Draw standard normal noise for each picture, shape (pictures, 3, size, size)."""
        shape = (3, size, size)
        return np.stack([generator.standard_normal(shape, dtype=np.float32) for generator in self.generators])


@dataclass(frozen=True)
class People:
    """Label and groups of each picture, as indices into ``CLASSES`` and ``GROUPS``."""

    smiling: Ints
    skin_tone: Ints
    age_group: Ints
    gender_presentation: Ints

    @classmethod
    def joined(cls, parts: Sequence[People]) -> People:
        """Return the people of several batches, in order."""
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )


def group_shares(feature: str, imbalance: float) -> NDArray[np.float64]:
    """Return the share of each value of ``feature``: equal at imbalance 0, as in collections of photographs at 1."""
    shares = np.asarray(SHARES[feature]) ** imbalance
    return np.asarray(shares / shares.sum())


def draw_groups(draws: Draws, imbalance: float) -> dict[str, Ints]:
    """Draw the value of each sensitive feature at random."""
    return {feature: draws.choice(group_shares(feature, imbalance).tolist()) for feature in GROUPS}


def spread_groups(seed: int, indices: Sequence[int], imbalance: float) -> dict[str, Ints]:
    """Distribute the intersections of all features in their shares, as evenly as possible for any number of images.

    The shares lie end to end on a circle, and each image steps on by the golden ratio (a Kronecker sequence): any run
    of images has each group's share to within about two images.
    """
    joint = np.ones(1)
    for feature in GROUPS:
        joint = np.outer(joint, group_shares(feature, imbalance)).ravel()
    start = np.random.default_rng((seed, SPREAD)).random()
    places = (start + np.asarray(indices, dtype=np.float64) * GOLDEN) % 1
    found = np.searchsorted(np.cumsum(joint)[:-1], places, side="right")
    values = np.unravel_index(found, [len(names) for names in GROUPS.values()])
    return {feature: value.astype(np.int64) for feature, value in zip(GROUPS, values, strict=True)}


def draw_smiles(draws: Draws, groups: Mapping[str, Ints], imbalance: float) -> People:
    """Draw a label that leans a little on the groups, as smiles do in collected photographs."""
    lean = 0.05 - 0.10 * groups["gender_presentation"] + 0.03 * (1 - groups["age_group"])
    smiling = draws.chance((0.5 + np.clip(imbalance * lean, -0.3, 0.3)).astype(np.float32))
    return People(smiling=smiling.astype(np.int64), **groups)


def draw_people(draws: Draws, imbalance: float) -> People:
    """Draw groups, then labels."""
    return draw_smiles(draws, draw_groups(draws, imbalance), imbalance)


@dataclass(frozen=True)
class Pose:
    """Position of the head in the picture."""

    scale: Floats
    angle: Floats
    x: Floats
    y: Floats
    yaw: Floats
    pitch: Floats


@dataclass(frozen=True)
class HeadTraits:
    """Skin and shape of the head, and the marks of age."""

    skin: Floats
    half_width: Floats
    half_height: Floats
    jaw: Floats
    neck: Floats
    jowls: Floats
    wrinkles: Floats
    folds: Floats
    blush: Floats


@dataclass(frozen=True)
class Mouth:
    """Mouth; ``smile`` runs from below 0 (corners down) to above 1 (a broad smile)."""

    smile: Floats
    y: Floats
    half_width: Floats
    lift: Floats
    skew: Floats
    upper: Floats
    lower: Floats
    opening: Floats
    teeth: Floats
    colour: Floats


@dataclass(frozen=True)
class Eyes:
    """Eyes, brows, glasses and nose."""

    spacing: Floats
    half_width: Floats
    half_height: Floats
    tilt: Floats
    gaze: Floats
    iris: Floats
    lashes: Floats
    brow_height: Floats
    brow_weight: Floats
    brow_slope: Floats
    glasses: Floats
    glasses_size: Floats
    nose_width: Floats
    nose_length: Floats


@dataclass(frozen=True)
class Hair:
    """Hair on head and face."""

    colour: Floats
    long: Floats
    volume: Floats
    hairline: Floats
    parting: Floats
    bald: Floats
    beard: Floats
    moustache: Floats
    droop: Floats
    phase: Floats


@dataclass(frozen=True)
class Scene:
    """Background, clothes, light and camera."""

    near: Floats
    far: Floats
    angle: Floats
    pattern: Floats
    frequency: Floats
    disc_x: Floats
    disc_y: Floats
    disc_radius: Floats
    clothes: Floats
    level: Floats
    light_x: Floats
    light_y: Floats
    warmth: Floats
    vignette: Floats
    blur: Floats
    noise: Floats


@dataclass(frozen=True)
class Traits:
    """All that a picture is drawn from; every array has one entry (or one RGB row) per picture."""

    pose: Pose
    head: HeadTraits
    mouth: Mouth
    eyes: Eyes
    hair: Hair
    scene: Scene


SKIN = np.array([[0.93, 0.74, 0.64], [0.73, 0.53, 0.40], [0.38, 0.25, 0.18]])
HAIR = np.array(
    [[0.09, 0.07, 0.06], [0.22, 0.13, 0.08], [0.42, 0.26, 0.14], [0.78, 0.60, 0.34], [0.55, 0.22, 0.10]],
)
LIPSTICK = np.array([[0.72, 0.10, 0.18], [0.80, 0.32, 0.38], [0.48, 0.08, 0.20]])
IRIS = np.array([[0.18, 0.10, 0.06], [0.30, 0.42, 0.55], [0.28, 0.40, 0.24], [0.36, 0.24, 0.12]])


def draw_traits(draws: Draws, people: People) -> Traits:
    """Draw everything that the pictures of ``people`` show."""
    old = (people.age_group == 2).astype(np.float32)
    middle = (people.age_group == 1).astype(np.float32)
    masculine = people.gender_presentation.astype(np.float32)
    age = np.clip(draws.normal(0.08 + 0.32 * middle + 0.82 * old, 0.10, 0.0, 1.1), 0, 1).astype(np.float32)
    pose = Pose(
        scale=draws.normal(1.14, 0.06, 1.0, 1.3),
        angle=draws.normal(0.0, 0.10, -0.28, 0.28),
        x=draws.normal(0.0, 0.05, -0.14, 0.14),
        y=draws.normal(0.0, 0.05, -0.12, 0.12),
        yaw=draws.normal(0.0, 0.45, -1.0, 1.0),
        pitch=draws.normal(0.0, 0.45, -1.0, 1.0),
    )
    head = _draw_head(draws, people, age, masculine)
    mouth = _draw_mouth(draws, people, head.skin, age, masculine)
    return Traits(
        pose, head, mouth, _draw_eyes(draws, age, masculine), _draw_hair(draws, people, age), _draw_scene(draws)
    )


def _colours(draws: Draws, table: NDArray[np.float64], which: Ints, spread: float) -> Floats:
    """Take a row of ``table`` for each picture and vary its brightness and each channel a little."""
    colours = table[which] * draws.uniform(1 - spread, 1 + spread)[:, None]
    shift = np.stack([draws.uniform(-0.03, 0.03) for _ in range(3)], axis=1)
    return np.clip(colours + shift, 0.02, 1.0).astype(np.float32)


def _draw_head(draws: Draws, people: People, age: Floats, masculine: Floats) -> HeadTraits:
    skin = _colours(draws, SKIN, people.skin_tone, 0.10)
    wrinkles = age**2 * draws.uniform(0.6, 1.2)
    return HeadTraits(
        skin=skin,
        half_width=draws.normal(0.49 + 0.02 * masculine, 0.02, 0.44, 0.56),
        half_height=draws.normal(0.66, 0.025, 0.60, 0.72),
        jaw=draws.normal(0.26 - 0.14 * masculine, 0.05, 0.0, 0.40),
        neck=(0.22 + 0.07 * masculine + draws.uniform(0.0, 0.03)).astype(np.float32),
        jowls=age * draws.uniform(0.3, 1.0),
        wrinkles=wrinkles.astype(np.float32),
        folds=(0.08 + 0.85 * age**1.5 * draws.uniform(0.3, 1.1)).astype(np.float32),
        blush=(1 - masculine) * draws.chance(0.5) * draws.uniform(0.3, 1.0),
    )


def _draw_mouth(draws: Draws, people: People, skin: Floats, age: Floats, masculine: Floats) -> Mouth:
    happy = people.smiling.astype(np.float32)
    smile = draws.normal(0.01 + 0.76 * happy, 0.12 + 0.06 * happy, -0.40, 1.25)
    talking = draws.chance(0.22) * draws.uniform(0.2, 1.0)
    laughing = draws.chance(0.55) * np.clip(smile - 0.3, 0, 1) * draws.uniform(0.4, 1.3)
    opening = 0.085 * np.maximum(talking * (1 - happy), laughing)
    lipstick = (1 - masculine) * draws.chance(0.65) * draws.uniform(0.35, 0.9)
    rosy = np.array([0.88, 0.68, 0.70]) + masculine[:, None] * np.array([0.02, 0.04, 0.04])
    natural = skin * rosy
    painted = _colours(draws, LIPSTICK, draws.choice((0.4, 0.4, 0.2)), 0.15)
    thin = 1 - 0.50 * age
    return Mouth(
        smile=smile,
        y=draws.normal(0.36, 0.015, 0.32, 0.40),
        half_width=(draws.normal(0.185, 0.014, 0.15, 0.22) + 0.05 * np.clip(smile, -0.2, 1.2)).astype(np.float32),
        lift=(0.135 * smile + draws.normal(0.0, 0.008 + 0.010 * age, -0.05, 0.05) - 0.025 * age).astype(np.float32),
        skew=draws.normal(0.0, 0.008 + 0.008 * age, -0.04, 0.04),
        upper=(draws.normal(0.034, 0.007, 0.015, 0.05) * thin).astype(np.float32),
        lower=(draws.normal(0.050, 0.009, 0.02, 0.07) * thin).astype(np.float32),
        opening=opening.astype(np.float32),
        teeth=np.clip(draws.uniform(0.1, 0.6) + 0.5 * laughing, 0, 0.95).astype(np.float32),
        colour=(natural + lipstick[:, None] * (painted - natural)).astype(np.float32),
    )


def _draw_eyes(draws: Draws, age: Floats, masculine: Floats) -> Eyes:
    return Eyes(
        spacing=draws.normal(0.205, 0.012, 0.17, 0.24),
        half_width=draws.normal(0.095, 0.008, 0.075, 0.115),
        half_height=(draws.normal(0.050, 0.009, 0.03, 0.07) * (1 - 0.25 * age)).astype(np.float32),
        tilt=draws.normal(-0.04, 0.07, -0.2, 0.12),
        gaze=draws.normal(0.0, 0.014, -0.03, 0.03),
        iris=_colours(draws, IRIS, draws.choice((0.5, 0.2, 0.15, 0.15)), 0.2),
        lashes=(1 - masculine) * draws.uniform(0.3, 1.0),
        brow_height=draws.normal(0.135 - 0.015 * masculine, 0.016, 0.09, 0.19),
        brow_weight=draws.normal(0.016 + 0.008 * masculine, 0.004, 0.009, 0.034),
        brow_slope=draws.normal(0.03, 0.06, -0.12, 0.18),
        glasses=draws.chance((0.10 + 0.20 * age).astype(np.float32)),
        glasses_size=draws.uniform(0.85, 1.2),
        nose_width=draws.normal(0.082 + 0.012 * masculine, 0.012, 0.055, 0.12),
        nose_length=draws.normal(0.17, 0.015, 0.13, 0.21),
    )


def _draw_hair(draws: Draws, people: People, age: Floats) -> Hair:
    masculine = people.gender_presentation.astype(np.float32)
    fair = draws.choice((0.18, 0.32, 0.24, 0.20, 0.06))
    dark = draws.choice((0.75, 0.22, 0.03))
    colour = _colours(draws, HAIR, np.where(people.skin_tone == 0, fair, dark), 0.2)
    grey = np.clip((age - 0.45) * 2.2, 0, 1) * draws.uniform(0.4, 1.0) * draws.chance(0.85)
    silver = draws.uniform(0.55, 0.88)[:, None]
    kind = draws.choice((0.38, 0.18, 0.16, 0.28))  # none, stubble, moustache, full beard
    full = draws.uniform(0.6, 0.95)
    beard = np.choose(kind, (0.0 * full, 0.12 + 0.25 * full, 0.0 * full, full))
    moustache = np.choose(kind, (0.0 * full, 0.10 + 0.25 * full, full, full))
    grown = masculine * (1 - 0.5 * (people.age_group == 0) * draws.chance(0.6))
    return Hair(
        colour=(colour + grey[:, None] * (silver - colour)).astype(np.float32),
        long=draws.chance((0.82 - 0.76 * masculine).astype(np.float32)) * draws.uniform(0.35, 1.2),
        volume=draws.uniform(0.3, 1.0),
        hairline=draws.normal(0.0 - 0.06 * masculine * age, 0.03, -0.12, 0.07),
        parting=draws.uniform(-0.18, 0.18),
        bald=draws.chance((masculine * (0.06 + 0.32 * age)).astype(np.float32)),
        beard=(beard * grown).astype(np.float32),
        moustache=(moustache * grown).astype(np.float32),
        droop=draws.uniform(-0.3, 1.0),
        phase=draws.uniform(0.0, 6.28),
    )


def _draw_scene(draws: Draws) -> Scene:
    def colour(low: float, high: float) -> Floats:
        grey = draws.uniform(low, high)
        return np.clip(np.stack([grey + draws.uniform(-0.18, 0.18) for _ in range(3)], axis=1), 0.02, 1).astype(
            np.float32
        )

    return Scene(
        near=colour(0.2, 0.9),
        far=colour(0.1, 0.8),
        angle=draws.uniform(0.0, 6.28),
        pattern=draws.chance(0.35) * draws.uniform(0.1, 0.5),
        frequency=draws.uniform(3.0, 12.0),
        disc_x=draws.uniform(-1.1, 1.1),
        disc_y=draws.uniform(-1.1, 0.6),
        disc_radius=draws.uniform(0.1, 0.6),
        clothes=colour(0.1, 0.85),
        level=draws.normal(0.90, 0.17, 0.45, 1.15),
        light_x=draws.normal(0.0, 0.30, -0.7, 0.7),
        light_y=draws.normal(-0.18, 0.16, -0.5, 0.3),
        warmth=draws.normal(0.0, 0.07, -0.16, 0.16),
        vignette=draws.uniform(0.0, 0.35),
        blur=draws.uniform(0.0, 1.0) ** 2,
        noise=draws.uniform(0.006, 0.026),
    )
