"""Contact sheets: a few pictures of every group, to look at before anything is computed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fqbench.data.samples import GROUP_SEPARATOR, Samples, group_labels
from fqbench.errors import DataError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from fqbench.data.pictures import Picture

# Okabe and Ito's colours, which colour-blind people tell apart.
CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
PAPER = "#ffffff"
INK = "#1a1a1a"
MUTED = "#6b6b6b"
FRAME = 4
GAP = 6


def contact_sheet(
    samples: Samples,
    out: Path,
    *,
    by: Sequence[str] | None = None,
    per_group: int = 12,
    tile: int = 96,
    seed: int = 0,
    split: str | None = None,
) -> list[tuple[str, int]]:
    """Write a PNG with one row per group: its name and size, then pictures drawn at random from it, ordered by class.

    Parameters
    ----------
    samples : Samples
        The data set.
    out : Path
        The PNG file to write, in an existing folder.
    by : sequence of str, optional
        Sensitive features; one row for each intersection of their values that occurs. All of them by default.
    per_group : int
        Most pictures in a row.
    tile : int
        Width and height of a picture on the sheet, in pixels.
    seed : int
        Seed of the choice of pictures; the same seed gives the same bytes.
    split : str, optional
        Only this split; all by default.

    Returns
    -------
    list of (str, int)
        Name and number of images of each group, in the order of the rows.

    Raises
    ------
    InputError
        An option is out of range, or ``out`` is not in an existing folder.
    DataError
        An image cannot be read.
    """
    if not 1 <= per_group <= 1000 or not 16 <= tile <= 1024:
        raise InputError(
            f"contact sheet: per_group must be from 1 to 1000 and tile from 16 to 1024, not {per_group} and {tile}; "
            "choose values in these ranges."
        )
    if not out.parent.is_dir():
        raise InputError(f"contact sheet: there is no folder {out.parent} to write {out.name} into; create it first.")
    rows = samples.frame if split is None else samples.split(split)
    groups = group_labels(rows, samples.features(by))
    names, counts = np.unique(groups, return_counts=True)
    chosen = [
        _choose(rows[groups == name], per_group, np.random.default_rng((seed, rank))) for rank, name in enumerate(names)
    ]
    listed = [(str(name), int(count)) for name, count in zip(names, counts, strict=True)]
    _sheet(samples, listed, chosen, tile).save(out, format="PNG", compress_level=6)
    return listed


def _choose(rows: pd.DataFrame, most: int, generator: np.random.Generator) -> pd.DataFrame:
    picked = generator.choice(len(rows), size=min(most, len(rows)), replace=False)
    return rows.iloc[np.sort(picked)].sort_values("label", kind="stable")


def _sheet(samples: Samples, groups: list[tuple[str, int]], chosen: list[pd.DataFrame], tile: int) -> Image.Image:
    font = ImageFont.load_default(size=max(11, tile // 6))
    line = round(1.35 * font.getbbox("Ag")[3])
    margin = 2 * GAP
    # Pillow's own font has no multiplication sign.
    texts = [(name.replace(GROUP_SEPARATOR, ", "), f"n = {count:,}") for name, count in groups]
    title = f"{samples.name}: {len(samples.frame):,} images"
    legend_width = sum(round(font.getlength(name)) + line + 3 * GAP for name in samples.classes)
    left = margin + max(round(font.getlength(text)) for pair in texts for text in pair) + 2 * GAP
    step = tile + 2 * FRAME + GAP
    top = margin + 2 * line + GAP
    width = max(
        left + step * max(len(rows) for rows in chosen),
        margin + legend_width,
        margin + round(font.getlength(title)) + GAP,
        margin + round(font.getlength(samples.notice)) + GAP,
    )
    bottom = line + GAP if samples.notice else 0
    row_height = max(step, 2 * line + GAP)
    sheet = Image.new("RGB", (width + margin, top + row_height * len(groups) + bottom + margin), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, margin), title, fill=INK, font=font)
    _legend(pen, samples.classes, (margin, margin + line), line, font)
    for index, ((name, count), rows) in enumerate(zip(texts, chosen, strict=True)):
        y = top + index * row_height
        pen.text((margin, y + row_height / 2 - line), name, fill=INK, font=font)
        pen.text((margin, y + row_height / 2), count, fill=MUTED, font=font)
        tiles = samples.pictures.chunk(rows["path"].tolist())
        for column, (picture, label) in enumerate(zip(tiles, rows["label"], strict=True)):
            x = left + column * step
            pen.rectangle((x, y, x + tile + 2 * FRAME - 1, y + tile + 2 * FRAME - 1), fill=_colour(int(label)))
            sheet.paste(_tile(picture, tile), (x + FRAME, y + FRAME))
    if samples.notice:
        pen.text((margin, sheet.height - margin - line), samples.notice, fill=MUTED, font=font)
    return sheet


def _legend(
    pen: ImageDraw.ImageDraw,
    classes: tuple[str, ...],
    at: tuple[int, int],
    line: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    x, y = at
    side = round(0.6 * line)
    for index, name in enumerate(classes):
        pen.rectangle((x, y + 2, x + side, y + 2 + side), fill=_colour(index))
        pen.text((x + side + GAP, y), name, fill=INK, font=font)
        x += side + round(font.getlength(name)) + 3 * GAP


def _colour(label: int) -> str:
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


def _tile(picture: Picture, tile: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(picture.read_bytes())) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise DataError(f"{picture} cannot be read as an image ({error}); replace it, or remove its row.") from error
    return ImageOps.fit(upright, (tile, tile), method=Image.Resampling.BICUBIC)
