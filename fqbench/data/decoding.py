"""Decode a picture's file into the pixels that a model takes: decode, rotate upright, resize, crop.

JPEGs are decoded by libjpeg-turbo, scaled while they are decoded; everything else, and every JPEG that libjpeg-turbo
has an objection to, by Pillow; OpenCV resizes. Which path a picture takes depends on the picture alone, and all three
libraries belong to the base install, so the same file gives the same pixels everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fqbench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from fqbench.config import Preprocessing
    from fqbench.data.pictures import Picture

MAX_PIXELS = 80_000_000  # below the number at which Pillow itself begins to warn
EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
HEADER_BYTES = 1 << 17
UPRIGHT = 1
DEEPEST = 65535  # the largest value of 16 bits
MARGIN = 8  # pixels around a cut that interpolation looks at
FIRST_TRANSPOSED = 5  # orientations 5 to 8 change width and height


def decode(picture: Picture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode one picture and bring it to the model's size.

    Parameters
    ----------
    picture : Path or Picture
        JPEG, PNG, WebP or anything else that Pillow reads. EXIF orientation is applied, any mode becomes RGB, 16 bits
        become 8, and of an animation the first frame is taken.
    preprocessing : Preprocessing
        ``size``, ``fit``, ``crop`` and ``interpolation`` are used: the image is resized to cover ``size / crop`` with
        antialiasing, then the centre is cropped.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        The file is not an image, is truncated, or has more than 80 million pixels.
    """
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise DataError(
            f"{picture} cannot be read ({error.strerror or error}); check the disk and the file's permissions."
        ) from error
    try:
        pixels, full_size = _pixels(content, preprocessing)
        return fit(pixels, preprocessing, full_size)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file brings out any exception of a decoder
        reason = str(error) or type(error).__name__
        raise DataError(f"{picture} cannot be decoded ({reason}); replace it or remove it from the table.") from error


def fit(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, full_size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Resize to cover ``size / crop`` and cut out the centre; or, where ``fit`` is ``squash``, resize to ``size``.

    Shrinking averages over the source's area, enlarging interpolates as asked; ``lanczos`` is Pillow's own filter.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        The picture.
    preprocessing : Preprocessing
        ``size``, ``crop`` and ``interpolation``.
    full_size : tuple of int, optional
        Width and height of the picture before it was scaled while decoding, whose rounding changes its proportions.
    """
    rows, columns = preprocessing.size
    width, height = full_size or (pixels.shape[1], pixels.shape[0])
    width, height = _target(width, height, preprocessing)
    if width * height > MAX_PIXELS:
        pixels, (height, width) = _middle(pixels, (height, width), preprocessing.size)
    if (height, width) != pixels.shape[:2]:
        pixels = _resize(pixels, width, height, preprocessing.interpolation)
    left, top = (width - columns) // 2, (height - rows) // 2
    return pixels[top : top + rows, left : left + columns]


def _target(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    rows, columns = preprocessing.size
    if preprocessing.fit == "squash":
        return columns, rows
    scale = max(max(side, round(side / preprocessing.crop)) / full for side, full in ((rows, height), (columns, width)))
    return max(columns, round(width * scale)), max(rows, round(height * scale))


def _middle(
    pixels: NDArray[np.uint8], target: tuple[int, int], kept: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Cut off the ends that the centre crop would cut off after they were enlarged, as those of a long strip.

    Returns
    -------
    ndarray of uint8
        What is left, with the same centre.
    tuple of int
        Height and width that it is to be resized to.
    """
    sizes = list(target)
    for axis in (0, 1):
        length = pixels.shape[axis]
        cut = max(0, (length - math.ceil(length * kept[axis] / target[axis])) // 2 - MARGIN)
        pixels = pixels[cut : length - cut] if axis == 0 else pixels[:, cut : length - cut]
        sizes[axis] = round(target[axis] * (length - 2 * cut) / length)
    return np.ascontiguousarray(pixels), (sizes[0], sizes[1])


def _resize(pixels: NDArray[np.uint8], width: int, height: int, interpolation: str) -> NDArray[np.uint8]:
    import cv2

    if interpolation == "lanczos":
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    enlarging = {
        "nearest": cv2.INTER_NEAREST_EXACT,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
    }
    shrinks = width * height < pixels.shape[0] * pixels.shape[1] and interpolation != "nearest"
    method = cv2.INTER_AREA if shrinks else enlarging[interpolation]
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method), dtype=np.uint8)


def _pixels(content: bytes, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
    """Return upright pixels, and the full width and height where they were scaled while decoding."""
    if content[:2] == b"\xff\xd8":
        fast = _jpeg(content, preprocessing)
        if fast is not None:
            return fast
    return _any(content), None


def _jpeg(content: bytes, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """Decode by libjpeg-turbo at the smallest scale that is not below the target; None where Pillow should decode."""
    import simplejpeg

    try:
        height, width, colours, _sampling = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    _check_size(width, height)
    if colours in {"CMYK", "YCCK"}:  # inverted by some writers, which Pillow knows about
        return None
    orientation = _orientation(content)
    least_width, least_height = _target(width, height, preprocessing)
    if preprocessing.interpolation == "nearest":
        least_width, least_height = width, height
    try:
        pixels = simplejpeg.decode_jpeg(
            content, "RGB", min_height=min(least_height, height), min_width=min(least_width, width), min_factor=1
        )
    except ValueError:  # cut short, or only untidy: Pillow tells the two apart
        return None
    full_size = (height, width) if orientation >= FIRST_TRANSPOSED else (width, height)
    return _upright(np.asarray(pixels, dtype=np.uint8), orientation), full_size


def _any(content: bytes) -> NDArray[np.uint8]:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        _check_size(*picture.size)
        # Before any conversion: that drops the tag from some formats.
        orientation = int(picture.getexif().get(ORIENTATION, UPRIGHT))
        return _upright(np.asarray(_to_rgb(picture), dtype=np.uint8), orientation)


def _to_rgb(picture: Image) -> Image:
    if picture.mode.startswith("I"):  # 16-bit greyscale: Pillow's own conversion would clip it to white
        from PIL import Image

        values = np.asarray(picture, dtype=np.float64)
        if values.max() > DEEPEST:
            raise ValueError(f"its pixels go up to {values.max():.0f}; save it with 8 or 16 bits per channel")
        scaled = values / 257.0
        return Image.fromarray(np.clip(scaled, 0, 255).round().astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a fixed range; save it with 8 or 16 bits")
    if "transparency" in picture.info and picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels exceed the limit of {MAX_PIXELS:,}")


def _orientation(content: bytes) -> int:
    """Return the EXIF orientation of a JPEG; most have none, for which only the marker is searched."""
    start = content.find(EXIF, 0, HEADER_BYTES)
    if start < 0:
        return UPRIGHT
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(content[start : start + (1 << 16)])
        orientation = int(exif.get(ORIENTATION, UPRIGHT))
    except Exception:  # damaged metadata say nothing about the picture
        return UPRIGHT
    return orientation if UPRIGHT <= orientation <= 8 else UPRIGHT


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the eight orientations of EXIF: mirrored or not, in four turns."""
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}
    mirrored = orientation in {2, 4, 5, 7}
    if orientation not in turns and not mirrored:
        return pixels
    turned = np.rot90(pixels, turns.get(orientation, 0))
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
