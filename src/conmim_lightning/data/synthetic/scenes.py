"""Synthetic scenes of textured objects on a textured background, for demos and tests without a download.

Objects and background have colours and textures from the same families, and objects cover all positions equally. The
only difference is shape: an object is a closed region of a certain shape in front of a larger region. Raw pixels and
randomly initialised networks do not reveal it.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring")
"""Object classes; class c of a class map (from 1) is SHAPES[c - 1]."""

_CONTRAST = 50  # spread of the difference between the two colours of a texture, grey levels
_EDGE_SAMPLES = 4  # shapes are drawn this many times larger, then cut at half coverage


class SceneObject(NamedTuple):
    """A visible object.

    Attributes:
        label: 0-based index in ``SHAPES``.
        mask: (S, S) bool, visible pixels of the object.
    """

    label: int
    mask: NDArray[np.bool_]


class Scene(NamedTuple):
    """A synthetic scene.

    Attributes:
        image: (S, S, 3) uint8.
        class_map: (S, S) uint8, 0 = background, c = SHAPES[c - 1].
        objects: visible objects, from back to front.
    """

    image: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    objects: list[SceneObject]

    @property
    def label(self) -> int:
        """Class of the object with the largest visible area."""
        return max(self.objects, key=lambda scene_object: int(scene_object.mask.sum())).label


def draw_scene(seed: int, index: int, size: int) -> Scene:
    """Draw scene ``index`` of the endless collection ``seed``.

    Args:
        seed: seed of the collection, >= 0.
        index: index of the scene, >= 0; with the seed, it determines every pixel.
        size: pixels S per side, >= 32.

    Raises:
        ValueError: size below 32 or a negative seed or index.
    """
    if size < 32 or seed < 0 or index < 0:
        raise ValueError(f"a scene needs size >= 32, seed >= 0, index >= 0, got {size}, {seed}, {index}")
    rng = np.random.default_rng([seed, index])
    while True:
        scene = _draw(rng, size)
        if scene.objects:  # nearly always
            return scene


def _draw(rng: np.random.Generator, size: int) -> Scene:
    image = _texture(rng, size)
    owner = np.zeros((size, size), np.int64)  # 0 = background, else number of the frontmost object
    labels = [int(label) for label in rng.integers(len(SHAPES), size=rng.integers(3, 7))]
    for number, label in enumerate(labels, start=1):
        mask = _shape_mask(rng, SHAPES[label], size)
        image[mask] = _texture(rng, size)[mask]
        owner[mask] = number
    image += rng.normal(0, rng.uniform(2, 10), image.shape).astype(np.float32)
    objects = [SceneObject(label, owner == number) for number, label in enumerate(labels, start=1)]
    class_map = np.concatenate([[0], np.array(labels) + 1]).astype(np.uint8)[owner]
    return Scene(image.clip(0, 255).astype(np.uint8), class_map, [o for o in objects if o.mask.any()])


def _texture(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Return (S, S, 3): a random colour and a similar colour, mixed by a random pattern with values 0 to 1."""
    colour = rng.uniform(0, 255, 3)
    colours = np.stack([colour, colour + rng.normal(0, _CONTRAST, 3)]).clip(0, 255).astype(np.float32)
    kind = rng.integers(4)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle, phase = rng.uniform(0, 2 * math.pi, 2)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    frequency = rng.uniform(4, 16) * 2 * math.pi
    if kind == 0:  # stripes
        pattern = np.sin(along * frequency + phase) > 0
    elif kind == 1:  # checks
        pattern = np.sin(along * frequency + phase) * np.sin(across * frequency) > 0
    elif kind == 2:  # ramp
        pattern = 0.5 + 0.5 * np.sin(along * frequency / 8 + phase)
    else:  # blobs
        cells = int(rng.integers(8, 24))
        grid = rng.uniform(0, 255, (cells, cells)).astype(np.uint8)
        blobs = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        pattern = np.asarray(blobs, np.float32) > 127
    mix = np.asarray(pattern, np.float32)[..., None]
    return colours[0] * mix + colours[1] * (1 - mix)


def _shape_mask(rng: np.random.Generator, shape: str, size: int) -> NDArray[np.bool_]:
    """Return the mask (S, S) of a shape at a random position, angle and scale; it may exceed the image."""
    radius = rng.uniform(0.14, 0.28) * size
    centre = rng.uniform(-0.1 * size, 1.1 * size, 2)
    rotation = rng.uniform(0, 2 * math.pi)
    canvas = Image.new("L", (size * _EDGE_SAMPLES, size * _EDGE_SAMPLES), 0)
    pen = ImageDraw.Draw(canvas)
    for points, value in _outlines(shape):
        corners = [
            (
                float(centre[0] + radius * distance * math.cos(angle + rotation)) * _EDGE_SAMPLES,
                float(centre[1] + radius * distance * math.sin(angle + rotation)) * _EDGE_SAMPLES,
            )
            for angle, distance in points
        ]
        pen.polygon(corners, fill=value)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX)) > 127


def _outlines(shape: str) -> list[tuple[list[tuple[float, float]], int]]:
    """Return polygons with their fill value, 255 or 0 for a hole; corners are (angle, distance in units of radius)."""
    circle = [(2 * math.pi * i / 48, 1.0) for i in range(48)]
    if shape == "disc":
        return [(circle, 255)]
    if shape == "ring":
        return [(circle, 255), ([(angle, 0.5) for angle, _ in circle], 0)]
    if shape in ("square", "triangle"):
        corners = 4 if shape == "square" else 3
        return [([(2 * math.pi * i / corners, 1.1) for i in range(corners)], 255)]
    if shape == "star":
        return [([(math.pi * i / 5, 1.15 if i % 2 == 0 else 0.5) for i in range(10)], 255)]
    arm = 0.36  # cross: half the width of an arm, in units of its length
    corners = [(1.0, -arm), (1.0, arm), (arm, arm)]
    quarter = [(math.atan2(y, x), math.hypot(x, y)) for x, y in corners]
    return [([(angle + k * math.pi / 2, 1.1 * distance) for k in range(4) for angle, distance in quarter], 255)]
