"""Trees in the exact formats that CelebA, UTKFace and FairFace are distributed in, with a few small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# The header of list_attr_celeba.txt.
HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
ATTRIBUTES = HEADER.split()
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
RACES = ("East Asian", "White", "Latino_Hispanic", "Southeast Asian", "Black", "Indian", "Middle Eastern")


def picture(path: Path, level: float, rng: np.random.Generator, size: tuple[int, int] = (178, 218)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = rng.normal(level, 30, (size[1] // 4, size[0] // 4, 3))
    small = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    small.resize(size).save(path, quality=85)


def attribute_text(values: np.ndarray) -> str:
    """``list_attr_celeba.txt`` as it is: count, header with a space at its end, numbers aligned in columns."""
    rows = [f"{index + 1:06d}.jpg " + " ".join(f"{v:2d}" for v in row) for index, row in enumerate(values)]
    return "\n".join([str(len(values)), " ".join(ATTRIBUTES) + " ", *rows]) + "\n"


def attribute_values(count: int, seed: int = 0) -> np.ndarray:
    """Random attributes in which each combination of Smiling, Male and Young occurs in turn."""
    values = np.random.default_rng(seed).choice([-1, 1], (count, len(ATTRIBUTES)))
    for bit, name in enumerate(("Smiling", "Male", "Young")):
        values[:, ATTRIBUTES.index(name)] = np.where(np.arange(count) >> bit & 1, 1, -1)
    return values


def partition(count: int) -> np.ndarray:
    """Half for training, a quarter each for validation and test, in whole rounds of eight."""
    return np.array([(0, 1, 0, 2)[index // 8 % 4] for index in range(count)])


def write_celeba(root: Path, count: int = 64, *, size: tuple[int, int] = (178, 218), ending: str = "txt") -> Path:
    values, splits = attribute_values(count), partition(count)
    rng = np.random.default_rng(1)
    names = [f"{index + 1:06d}.jpg" for index in range(count)]
    smiling = values[:, ATTRIBUTES.index("Smiling")] > 0
    for name, smiles in zip(names, smiling, strict=True):
        picture(root / "img_align_celeba" / name, 160 if smiles else 90, rng, size)
    if ending == "txt":
        (root / "list_attr_celeba.txt").write_text(attribute_text(values))
        (root / "list_eval_partition.txt").write_text(
            "".join(f"{name} {split}\n" for name, split in zip(names, splits, strict=True))
        )
        return root
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(names, values, strict=True)]
    (root / "list_attr_celeba.csv").write_text("\n".join(["image_id," + ",".join(ATTRIBUTES), *rows]) + "\n")
    lines = [f"{name},{split}" for name, split in zip(names, splits, strict=True)]
    (root / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *lines]) + "\n")
    return root


def write_utkface(root: Path, count: int = 80, *, suffix: str = ".jpg.chip.jpg", parts: int = 1) -> Path:
    rng = np.random.default_rng(2)
    for index in range(count):
        age, gender, race = int(rng.integers(1, 100)), index % 2, index // 2 % 5
        folder = root / f"part{index % parts + 1}" if parts > 1 else root
        picture(folder / f"{age}_{gender}_{race}_2017011917{index:07d}{suffix}", 90 + 60 * gender, rng, (200, 200))
    return root


def write_fairface(root: Path, count: int = 84, *, pictures: Path | None = None) -> Path:
    rng = np.random.default_rng(3)
    root.mkdir(parents=True, exist_ok=True)
    for part, share in (("train", count), ("val", count // 3)):
        rows = ["file,age,gender,race,service_test"]
        for index in range(share):
            name = f"{part}/{index + 1}.jpg"
            gender, race = ("Male", "Female")[index % 2], RACES[index // 2 % 7]
            picture((pictures or root) / name, 90 + 60 * (index % 2), rng, (56, 56))
            rows.append(f"{name},{AGES[index % 9]},{gender},{race},{bool(index % 3)}")
        (root / f"fairface_label_{part}.csv").write_text("\n".join(rows) + "\n")
    return root
