"""Paint faces from their traits, a batch at a time, with signed distances on a pixel grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from fqbench.data.synthfaces.traits import Draws, Eyes, Hair, HeadTraits, Mouth, Pose, Scene, Traits

# All are float32; the types of numpy's functions do not keep that.
Plane = NDArray[np.floating[Any]]

REFERENCE_SIZE = 64
MAX_BLUR = 0.95  # standard deviation in pixels of a 64-pixel picture


def _each(values: Plane) -> Plane:
    """Shape (pictures,) to (pictures, 1, 1), to meet a grid."""
    return values[:, None, None]


@dataclass(frozen=True)
class Canvas:
    """A batch of pictures (or a window on them) in head coordinates: the head spans about -0.5 to 0.5 by -0.66 to 0.66.

    Attributes
    ----------
    colour : ndarray, shape (pictures, 3, rows, columns)
        The pictures; painting changes them in place.
    x, y : ndarray, shape (pictures, rows, columns)
        Head coordinates of each pixel, y downwards.
    pixel : ndarray, shape (pictures, 1, 1)
        Width of a pixel in head coordinates.
    head : ndarray, shape (pictures, rows, columns)
        Share of each pixel that the head covers; set when the head is painted.
    """

    colour: Plane
    head: Plane
    x: Plane
    y: Plane
    pixel: Plane

    def window(self, left: float, right: float, top: float, bottom: float) -> Canvas:
        """Return the smallest part that holds this box of head coordinates in every picture; it shares the pixels."""
        inside = (self.x >= left) & (self.x <= right) & (self.y >= top) & (self.y <= bottom)
        rows = np.flatnonzero(inside.any(axis=(0, 2)))
        columns = np.flatnonzero(inside.any(axis=(0, 1)))
        r = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0, 1)
        c = slice(columns[0], columns[-1] + 1) if len(columns) else slice(0, 1)
        return Canvas(self.colour[:, :, r, c], self.head[:, r, c], self.x[:, r, c], self.y[:, r, c], self.pixel)

    def cover(self, distance: Plane, softness: float = 0.0) -> Plane:
        """Share of each pixel inside a shape, from the signed distance to its edge (negative inside)."""
        width = self.pixel if softness == 0.0 else np.maximum(self.pixel, np.float32(softness))
        return cast(Plane, np.clip(0.5 - distance / width, 0.0, 1.0))

    def ellipse(
        self, x: Plane, y: Plane, half_width: Plane | float, half_height: Plane | float, softness: float = 0.0
    ) -> Plane:
        """Cover of an ellipse around the origin of ``x`` and ``y``."""
        radius = np.sqrt((x / half_width) ** 2 + (y / half_height) ** 2)
        return self.cover((radius - 1) * np.minimum(half_width, half_height), softness)

    def paint(self, cover: Plane, colour: Plane) -> None:
        """Paint ``colour`` (pictures, 3) over the pictures, weighted by ``cover``."""
        layer = colour[:, :, None, None] - self.colour
        layer *= cover[:, None]
        np.add(self.colour, layer, out=self.colour)

    def shade(self, amount: Plane) -> None:
        """Darken by the share ``amount`` (negative: lighten)."""
        np.multiply(self.colour, (1 - amount)[:, None], out=self.colour)


def _blob(x: Plane, y: Plane, half_width: float | Plane, half_height: float | Plane) -> Plane:
    """Return a soft spot: 1 in the middle, 0 from the edge of the ellipse outwards."""
    spot = np.maximum(1 - (x / half_width) ** 2 - (y / half_height) ** 2, 0)
    return cast(Plane, spot * spot)


def paint_faces(traits: Traits, draws: Draws, size: int) -> NDArray[np.uint8]:
    """Paint one picture for each entry of ``traits``.

    Parameters
    ----------
    traits : Traits
        What the pictures show.
    draws : Draws
        The streams of the same pictures; the sensor's noise comes from them.
    size : int
        Width and height in pixels.

    Returns
    -------
    ndarray of uint8, shape (pictures, size, size, 3)
    """
    canvas = _blank(traits.pose, size)
    _paint_background(canvas, traits.scene, size)
    _paint_body(canvas, traits)
    _paint_head(canvas, traits.head)
    features = _turned(canvas, traits.pose)
    _paint_age(features, traits.head, traits.mouth)
    _paint_nose(features, traits.eyes, traits.pose)
    _paint_eyes(features, traits.eyes, traits.mouth, traits.hair)
    _paint_mouth(features, traits.mouth)
    _paint_beard(features, traits.hair, traits.mouth)
    _paint_form(canvas, traits.head, traits.scene)
    _paint_hair(canvas, traits.hair, traits.head)
    _paint_glasses(features, traits.eyes)
    return _photograph(canvas.colour, traits.scene, draws, size)


def _blank(pose: Pose, size: int) -> Canvas:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    across = centres[None, None, :] - _each(pose.x)
    down = centres[None, :, None] - _each(pose.y)
    cosine, sine = _each(np.cos(pose.angle)), _each(np.sin(pose.angle))
    scale = _each(pose.scale)
    colour = np.empty((len(pose.scale), 3, size, size), dtype=np.float32)
    x = (cosine * across + sine * down) / scale
    y = (cosine * down - sine * across) / scale
    return Canvas(colour, np.zeros_like(x), x, y, np.float32(2 / size) / scale)


def _turned(canvas: Canvas, pose: Pose) -> Canvas:
    """Shift the face's features over the head as it turns and nods."""
    return replace(canvas, x=canvas.x - _each(0.07 * pose.yaw), y=canvas.y - _each(0.03 * pose.pitch))


def _paint_background(canvas: Canvas, scene: Scene, size: int) -> None:
    grid = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    across, down = grid[None, None, :], grid[None, :, None]
    along = across * _each(np.cos(scene.angle)) + down * _each(np.sin(scene.angle))
    mix = 0.5 + 0.35 * along + _each(scene.pattern) * np.sin(along * _each(scene.frequency))
    disc = (across - _each(scene.disc_x)) ** 2 + (down - _each(scene.disc_y)) ** 2
    mix += 0.3 * np.clip((_each(scene.disc_radius) ** 2 - disc) * 12, 0, 1)
    mix = np.clip(mix, 0, 1)
    canvas.colour[:] = scene.near[:, :, None, None]
    canvas.paint(mix, scene.far)


def _paint_body(canvas: Canvas, traits: Traits) -> None:
    """Paint shoulders, the hair that falls behind the face, and the neck."""
    head, hair = traits.head, traits.hair
    lower = canvas.window(-9, 9, 0.40, 9)
    shoulders = lower.ellipse(lower.x, lower.y - 1.40, 1.0, 0.62)
    lower.paint(shoulders, traits.scene.clothes)
    lower.shade(shoulders * np.clip(np.abs(lower.x) - 0.35, 0, 0.4))
    crown = np.clip((canvas.y + 0.12) / _each(-(head.half_height + 0.02 + 0.10 * hair.volume)), 0, 1)
    width = _each(head.half_width + 0.06 + 0.14 * hair.volume) * np.sqrt(1 - crown * crown)
    width += np.maximum(canvas.y, 0) * _each(0.25 * hair.volume - 0.12)
    width += 0.02 * np.sin(11 * canvas.y + _each(hair.phase)) * np.clip(canvas.y + 0.1, 0, 1)
    end = canvas.y - _each(0.25 + 0.75 * hair.long) - 0.35 * np.abs(canvas.x) + 0.2
    fall = canvas.cover(np.abs(canvas.x) - width) * canvas.cover(end, 0.10) * canvas.cover(-0.84 - canvas.y)
    fall *= _each((hair.long > 0).astype(np.float32))
    canvas.paint(fall, hair.colour * np.float32(0.72))
    canvas.shade(fall * (1 - _strands(canvas, hair)))
    neck = lower.cover(np.abs(lower.x) - _each(head.neck) - 0.25 * np.maximum(lower.y - 0.66, 0))
    lower.paint(neck * lower.cover(lower.y - 0.86 + lower.x**2, 0.04), head.skin * np.float32(0.78))


def _paint_head(canvas: Canvas, head: HeadTraits) -> None:
    ears = canvas.window(-0.7, 0.7, -0.25, 0.25)
    side = np.abs(ears.x) - _each(head.half_width)
    ears.paint(ears.ellipse(side, ears.y - 0.02, 0.07, 0.13), head.skin * np.float32(0.88))
    below = np.clip(canvas.y / 0.66, 0, 1)
    narrow = (
        1 - _each(head.jaw) * below * below + _each(0.10 * head.jowls) * np.clip(1 - ((below - 0.62) / 0.3) ** 2, 0, 1)
    )
    canvas.head[:] = canvas.ellipse(canvas.x / narrow, canvas.y - 0.02, _each(head.half_width), _each(head.half_height))
    canvas.paint(canvas.head, head.skin)


def _paint_age(face: Canvas, head: HeadTraits, mouth: Mouth) -> None:
    """Paint the lines of age, which smiling draws too, cheeks and blush."""
    smile = np.clip(mouth.smile, 0, 1.1)
    cheeks = face.window(-0.48, 0.48, -0.05, 0.62)
    side = np.abs(cheeks.x)
    corner = _each(mouth.half_width)
    # From the wing of the nose to near the corner of the mouth, and, on old faces, down from there.
    fold = side - 0.10 - (corner - 0.065) * np.clip((cheeks.y - 0.14) / 0.20, 0, 1.4)
    amount = np.clip(1 - np.abs(fold) / 0.035, 0, 1) * np.clip(1 - ((cheeks.y - 0.27) / 0.13) ** 2, 0, 1)
    cheeks.shade(amount * _each(np.clip(0.42 * head.folds + 0.22 * smile, 0, 0.55)))
    marionette = side - corner - 0.01 - 0.12 * (cheeks.y - 0.42)
    amount = np.clip(1 - np.abs(marionette) / 0.03, 0, 1) * np.clip(1 - ((cheeks.y - 0.48) / 0.09) ** 2, 0, 1)
    cheeks.shade(amount * _each(0.32 * head.jowls * head.folds))
    apple = _blob(side - 0.27, cheeks.y - _each(0.17 - 0.03 * smile), 0.14, 0.12)
    cheeks.shade(apple * _each(-0.10 * smile))
    cheeks.paint(apple * _each(0.35 * head.blush), head.skin * np.array([0.98, 0.70, 0.70], dtype=np.float32))
    forehead = face.window(-0.40, 0.40, -0.50, -0.22)
    lines = np.sin(forehead.y * 62 + 5 * forehead.x**2)
    zone = _blob(forehead.x, forehead.y + 0.35, 0.38, 0.15)
    forehead.shade(np.clip(lines, 0, 1) * zone * _each(0.35 * head.wrinkles))
    eyes = face.window(-0.48, 0.48, -0.22, 0.12)
    side = np.abs(eyes.x)
    feet = np.clip(np.sin((eyes.y + 0.08) * 75 * (1 + 1.5 * (side - 0.36))), 0, 1) * _blob(
        side - 0.37, eyes.y + 0.07, 0.08, 0.09
    )
    eyes.shade(feet * _each(np.clip(0.5 * head.wrinkles + 0.22 * smile, 0, 0.6)))
    bags = _blob(side - 0.205, eyes.y - 0.005, 0.11, 0.045)
    eyes.shade(bags * _each(0.05 + 0.32 * head.wrinkles))


def _paint_nose(face: Canvas, eyes: Eyes, pose: Pose) -> None:
    nose = face.window(-0.26, 0.26, -0.16, 0.30)
    x = nose.x - _each(0.05 * pose.yaw)
    tip = nose.y - _each(eyes.nose_length) + 0.02
    wide = _each(eyes.nose_width)
    bridge = (
        np.clip(1 - np.abs(np.abs(x) - 0.45 * wide) / 0.03, 0, 1)
        * np.clip((nose.y + 0.14) * 6, 0, 1)
        * np.clip(-tip * 8, 0, 1)
    )
    nose.shade(0.13 * bridge)
    nose.shade(0.16 * _blob(np.abs(x) - 0.8 * wide, tip, 0.055, 0.06))
    nose.shade(-0.10 * _blob(x, tip + 0.03, 0.06, 0.10))
    nostril = nose.ellipse(np.abs(x) - 0.5 * wide, tip - 0.035, 0.028, 0.016)
    nose.shade(0.55 * nostril)


def _paint_eyes(face: Canvas, eyes: Eyes, mouth: Mouth, hair: Hair) -> None:
    part = face.window(-0.42, 0.42, -0.34, 0.08)
    signed = np.sign(part.x)
    along = np.abs(part.x) - _each(eyes.spacing)
    y = part.y + 0.08 - _each(eyes.tilt) * along
    u = along / _each(eyes.half_width)
    arch = np.maximum(1 - u * u, 0)
    smile = np.clip(mouth.smile, 0, 1)
    upper = -_each(eyes.half_height * (1 - 0.18 * smile)) * arch
    lower = _each(eyes.half_height * (0.75 - 0.40 * smile)) * arch
    part.shade(0.16 * _blob(along, y + 0.04, 0.15, 0.10))
    ball = part.cover(np.maximum(upper - y, y - lower)) * (arch > 0)
    part.paint(ball, np.full_like(eyes.iris, 0.90))
    iris_x, iris_y = along - _each(eyes.gaze) * signed, y + 0.005
    iris = 0.042
    part.paint(ball * part.ellipse(iris_x, iris_y, iris, iris), eyes.iris)
    part.paint(ball * part.ellipse(iris_x, iris_y, iris * 0.45, iris * 0.45), np.full_like(eyes.iris, 0.03))
    lid = part.cover(np.abs(y - upper) - _each(0.008 + 0.010 * eyes.lashes)) * np.clip(1.25 - np.abs(u), 0, 1)
    part.shade(lid * _each(0.55 + 0.25 * eyes.lashes))
    bend = _each(eyes.brow_slope) * along + 1.8 * (along - 0.02) ** 2
    brow = np.abs(y + _each(eyes.brow_height) - bend) - _each(eyes.brow_weight) * np.clip(
        1.3 - np.abs(along) * 6, 0.3, 1
    )
    shape = part.cover(brow) * part.cover(np.abs(along) - 0.135, 0.03)
    part.paint(0.85 * shape, hair.colour * np.float32(0.7))


def _paint_mouth(face: Canvas, mouth: Mouth) -> None:
    part = face.window(-0.36, 0.36, 0.16, 0.66)
    t = part.x / _each(mouth.half_width)
    arch = np.maximum(1 - t * t, 0)
    line = _each(mouth.y) + _each(mouth.lift) * (0.4 - np.minimum(t * t, 1.3)) + _each(mouth.skew) * t
    within = part.cover((np.abs(t) - 1) * _each(mouth.half_width))
    bow = 1 - 0.35 * np.maximum(1 - 30 * t * t, 0)
    upper = line - _each(mouth.upper) * arch * bow - _each(0.25 * mouth.opening) * arch
    gap_top = line - _each(0.25 * mouth.opening) * arch
    gap_bottom = line + _each(0.85 * mouth.opening) * arch
    lower = gap_bottom + _each(mouth.lower) * np.sqrt(arch)
    part.shade(0.10 * _blob(part.x, part.y - lower - 0.035, 0.14, 0.04))
    lips = part.cover(np.maximum(upper - part.y, part.y - lower)) * within
    part.paint(lips, mouth.colour)
    part.shade(-0.10 * lips * np.clip(1 - np.abs(part.y - lower + 0.022) / 0.02, 0, 1))
    gap = part.cover(np.maximum(gap_top - part.y, part.y - gap_bottom)) * within
    gap *= np.clip(_each(mouth.opening) * 60, 0, 1)
    part.paint(gap, mouth.colour * np.float32(0.18))
    edge = gap_top + _each(mouth.teeth) * (gap_bottom - gap_top)
    part.paint(
        gap * part.cover(part.y - edge),
        np.broadcast_to(np.array([0.90, 0.88, 0.82], dtype=np.float32), mouth.colour.shape),
    )
    closed = part.cover(np.abs(part.y - gap_top) - 0.009) * within
    part.shade(0.50 * closed)
    corner = _blob(np.abs(t) - 1.02, part.y - line, 0.20, 0.035)
    part.shade(corner * _each(0.25 + 0.20 * np.clip(mouth.smile, 0, 1)))


def _strands(canvas: Canvas, hair: Hair) -> Plane:
    """Return a texture around 1 of strands that fan out from the parting."""
    phase = _each(hair.phase)
    fan = (canvas.x - _each(hair.parting)) / (np.abs(canvas.y + 0.95) + 0.45)
    warp = 38 * fan + 2.5 * np.sin(5 * canvas.y + phase)
    return cast(Plane, 1 + 0.07 * np.sin(warp) + 0.07 * np.sin(1.7 * warp + 3 * canvas.y + 2 * phase))


def _paint_beard(face: Canvas, hair: Hair, mouth: Mouth) -> None:
    if not (hair.beard.any() or hair.moustache.any()):
        return
    part = face.window(-0.60, 0.60, -0.05, 0.80)
    side = np.abs(part.x)
    edge = 0.37 - 1.05 * np.maximum(side - 0.18, 0)
    hole = _blob(part.x, part.y - _each(mouth.y + 0.3 * mouth.opening), 0.18, 0.085)
    grow = np.clip((part.y - edge) / 0.10, 0, 1) * (1 - np.minimum(1.5 * hole, 1))
    strands = _strands(part, hair)
    colour = hair.colour * np.float32(0.75)
    part.paint(grow * part.head * _each(hair.beard) * np.minimum(strands, 1), colour)
    y = part.y - _each(mouth.y - 0.070) - _each(0.9 * hair.droop) * part.x**2
    lip = part.cover(np.sqrt((part.x / 0.20) ** 2 + (y / 0.057) ** 2) * 0.057 - 0.057, 0.04)
    part.paint(lip * _each(hair.moustache) * np.minimum(strands, 1), colour)


def _paint_form(canvas: Canvas, head: HeadTraits, scene: Scene) -> None:
    """Shade the head as a ball under the light."""
    nx = canvas.x / _each(head.half_width)
    ny = (canvas.y - 0.02) / _each(head.half_height)
    round_off = np.minimum(nx * nx + ny * ny, 1.0)
    light = 1.0 - 0.28 * round_off * round_off + 0.42 * (_each(scene.light_x) * nx + _each(scene.light_y) * ny)
    canvas.shade(canvas.head * (1 - light))


def _paint_hair(canvas: Canvas, hair: Hair, head: HeadTraits) -> None:
    """Paint the hair that lies over the head: a cap that leaves the face free."""
    long = hair.long > 0
    thick = _each((1 - hair.bald) * (0.03 + 0.10 * hair.volume))
    # Full on top, close to the head above the ears.
    thick = thick * np.maximum(np.clip(-canvas.y / 0.45, 0.15, 1), _each(0.8 * long.astype(np.float32)))
    cap = canvas.ellipse(canvas.x, canvas.y + 0.02, _each(head.half_width) + thick, _each(head.half_height) + thick)
    across = canvas.x - _each(hair.parting)
    width = head.half_width * np.where(long, 0.88, 0.95).astype(np.float32)
    height = _each(0.64 - hair.hairline + 0.32 * hair.bald) + 0.03 * np.sin(9 * across + _each(hair.phase))
    opening = canvas.ellipse(canvas.x, canvas.y - 0.22 - 0.30 * across**2, _each(width), height, 0.05)
    ends = np.where(long, 0.10 + 0.45 * hair.long, 0.02).astype(np.float32)
    cover = cap * (1 - opening) * np.clip((_each(ends) - canvas.y) / 0.20, 0, 1)
    canvas.paint(cover, hair.colour)
    gloss = _blob(canvas.x - 0.12, canvas.y + 0.60, 0.40, 0.16)
    canvas.shade(cover * (1 - _strands(canvas, hair) - 0.16 * gloss))


def _paint_glasses(face: Canvas, eyes: Eyes) -> None:
    if not eyes.glasses.any():
        return
    part = face.window(-0.56, 0.56, -0.30, 0.14)
    worn = _each(eyes.glasses)
    u = (np.abs(part.x) - _each(eyes.spacing)) / _each(0.155 * eyes.glasses_size)
    v = (part.y + 0.07) / _each(0.115 * eyes.glasses_size)
    radius = np.sqrt(np.hypot(u * u, v * v))
    rim = part.cover(np.abs(radius - 1) * 0.13 - 0.013)
    bridge = part.cover(np.abs(part.y + 0.09) - 0.012) * ((u < -1) | (u > 1)) * (np.abs(part.x) < 0.5)
    part.shade(-0.12 * worn * np.clip(1 - radius, 0, 1))
    part.shade(0.80 * worn * np.maximum(rim, bridge))


def _photograph(colour: Plane, scene: Scene, draws: Draws, size: int) -> NDArray[np.uint8]:
    """Light the scene, blur it, add the sensor's noise and round to 8 bits."""
    grid = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    across, down = grid[None, None, :], grid[None, :, None]
    light = 1 + 0.22 * (_each(scene.light_x) * across + _each(scene.light_y) * down)
    light = light * _each(scene.level) * (1 - _each(scene.vignette) * 0.5 * (across**2 + down**2))
    colour *= light[:, None]
    tint = np.stack([1 + scene.warmth, np.ones_like(scene.warmth), 1 - scene.warmth], axis=1)
    colour *= tint[:, :, None, None]
    _blur(colour, scene.blur)
    # A camera turns up its gain in the dark.
    gain = scene.noise * (1 + 1.2 * np.clip(1 - scene.level, 0, 1))
    noise = draws.noise(size)
    noise *= gain[:, None, None, None]
    colour += noise
    np.clip(colour, 0, 1, out=colour)
    colour *= 255
    colour += 0.5
    return np.ascontiguousarray(colour.astype(np.uint8).transpose(0, 2, 3, 1))


def _blur(colour: Plane, amount: Plane) -> None:
    """Blur each picture in place with a Gaussian of ``amount`` times ``MAX_BLUR`` pixels of the reference size."""
    per_reference = colour.shape[2] / REFERENCE_SIZE
    sigma = np.maximum(amount * MAX_BLUR * per_reference, 0.05)
    radius = int(np.ceil(2.5 * MAX_BLUR * per_reference))
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps[None, :] / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    for planes, kernel in zip(colour, weights, strict=True):
        for plane in planes:
            cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, dst=plane, borderType=cv2.BORDER_REPLICATE)
