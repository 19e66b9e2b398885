"""The glyphs data set: printed letters drawn as if by hand, as a TFDS builder that downloads nothing.

A letter's outline, from the DejaVu fonts that matplotlib ships, is thinned to its one-pixel skeleton: the path that
a pen would take. A drawing moves the skeleton's points (turn, slant, stretch, a smooth wave of displacements) and
follows them with a round pen. So twenty drawings of a letter differ in shape as handwriting does, not in pose alone.
Which letters, and which scripts make which split, is in splits/glyphs.json: letters that look alike after scaling
are one class, of the first script that has it.
"""

import io
import json
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIDE = 28  # pixels of a drawing
DRAWINGS = 20  # of a letter
EM = 32  # pixels of the font size that skeletons are taken at
FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")


def scripts(split: str) -> dict[str, str]:
    """Return each script of a split ("train", "val" or "test") and its letters."""
    return json.loads(resources.files("mtl_jax.data").joinpath("splits/glyphs.json").read_text())[split]


def letters(split: str) -> str:
    """Return all the letters of a split, one class each."""
    return "".join(scripts(split).values())


def draw_letter(letter: str, number: int) -> np.ndarray:
    """Draw a letter, differently for each number; the same letter and number give the same drawing.

    Returns:
        [28, 28] uint8, ink 255 on 0.
    """
    rng = np.random.default_rng([ord(letter), number])
    skeletons = letter_skeletons(letter)
    return _ink(_distort(skeletons[rng.choice(len(skeletons), p=_odds(len(skeletons)))], rng), _radius(rng))


@cache
def letter_skeletons(letter: str) -> tuple[np.ndarray, ...]:
    """Return the pen's paths of a letter, [points, 2] (y, x) in pixels of EM, one for each font that has it."""
    outlines = np.stack([_render(letter, font) for font in FONTS if ord(letter) in _covered(font)])
    rows, cols = np.flatnonzero(outlines.any((0, 2))), np.flatnonzero(outlines.any((0, 1)))
    outlines = np.pad(outlines[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], ((0, 0), (1, 1), (1, 1)))
    return tuple(_points(outline, thin) for outline, thin in zip(outlines, _thin(outlines), strict=True))


def _points(outline: np.ndarray, thin: np.ndarray) -> np.ndarray:
    """The skeleton's pixels, the middles between neighbours (a stretched line stays whole), and dots thinned away."""
    points = [np.argwhere(thin).astype(np.float64)]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        points.append(np.argwhere(thin & np.roll(thin, (-dy, -dx), (0, 1))) + np.asarray([dy / 2, dx / 2]))
    parts, count = ndimage.label(outline, np.ones((3, 3)))
    lost = np.setdiff1d(np.arange(1, count + 1), parts[thin])
    points.append(np.asarray(ndimage.center_of_mass(outline, parts, lost)).reshape(-1, 2))
    return np.concatenate(points)


def _odds(fonts: int) -> np.ndarray:
    """Serifs are ink that no hand would write: they come seldom."""
    odds = np.asarray([0.6, 0.25, 0.15][:fonts])
    return odds / odds.sum()


def _font_file(font: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@cache
def _covered(font: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont

    with TTFont(_font_file(font), lazy=True) as file:
        return frozenset(file.getBestCmap())


@cache
def _font(font: str) -> ImageFont.FreeTypeFont:
    # Basic layout: one character at a time needs no shaping, and the pictures do not hang on raqm being there.
    return ImageFont.truetype(str(_font_file(font)), EM, layout_engine=ImageFont.Layout.BASIC)


def _render(letter: str, font: str) -> np.ndarray:
    """The letter's outline filled, [3 EM, 3 EM] bool."""
    picture = Image.new("L", (3 * EM, 3 * EM))
    ImageDraw.Draw(picture).text((EM, EM), letter, font=_font(font), fill=255)
    return np.asarray(picture) > 100


def _thin(x: np.ndarray) -> np.ndarray:
    """Thin pictures [n, height, width] bool to lines one pixel wide, by Zhang and Suen's parallel algorithm (1984)."""
    while True:
        before = x
        for first in (True, False):
            p = np.pad(x, ((0, 0), (1, 1), (1, 1)))
            n, e, s, w = p[:, :-2, 1:-1], p[:, 1:-1, 2:], p[:, 2:, 1:-1], p[:, 1:-1, :-2]
            ring = np.stack([n, p[:, :-2, 2:], e, p[:, 2:, 2:], s, p[:, 2:, :-2], w, p[:, :-2, :-2]])
            count = ring.sum(0, dtype=np.uint8)
            turns = (~ring & np.roll(ring, -1, 0)).sum(0, dtype=np.uint8)  # 0 -> 1 around the ring
            free = ~(n & e & s) & ~(e & s & w) if first else ~(n & e & w) & ~(n & s & w)
            x = x & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if (x == before).all():
            return x


def _distort(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points [n, 2] moved to where a hand might put them in a drawing, in its pixels."""
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 4.0)
    p = (points - (low + high) / 2) / span  # in [-1/2, 1/2]
    # Waves of displacement, long ones large: strokes bend, and move against each other.
    for wave, size in ((0.5, 0.06), (0.9, 0.03), (1.5, 0.01)):
        direction = rng.normal(size=(2, 2)) * wave * 2 * np.pi / 1.4
        p = p + size * 1.4 * rng.normal(size=2) * np.sin(p @ direction + rng.uniform(0, 2 * np.pi, 2))
    turn, slant = rng.normal(0, 0.10), rng.normal(0, 0.16)
    stretch = np.exp(rng.normal(0, 0.10))
    cos, sin = np.cos(turn), np.sin(turn)
    p = p @ np.asarray([[stretch, 0.0], [slant, 1 / stretch]]) @ np.asarray([[cos, sin], [-sin, cos]])
    size = 16.0 * (span / (0.65 * EM)) ** 0.4 * np.exp(rng.normal(0, 0.13))
    size = min(size, 24.0 / np.ptp(p, axis=0).max()) if len(p) > 1 else size
    p = p * size
    middle = (p.min(0) + p.max(0)) / 2
    room = np.maximum(SIDE / 2 - 1.5 - np.ptp(p, axis=0) / 2, 0.0)
    return p - middle + np.clip(rng.normal(0, 1.4, 2), -room, room) + (SIDE - 1) / 2


def _radius(rng: np.random.Generator) -> float:
    """Half the pen's width in pixels: mostly a fine pen, sometimes a broad one."""
    return rng.uniform(0.75, 1.1) if rng.uniform() < 0.85 else rng.uniform(1.1, 1.8)


def _ink(points: np.ndarray, radius: float) -> np.ndarray:
    """Follow the points with a round pen, [28, 28] uint8: a pixel's ink falls from 1 to 0 across the pen's edge."""
    reach = int(np.ceil(radius + 0.5))
    side = SIDE + 2 * reach  # a margin, so that no pixel near a point falls outside
    near = np.arange(-reach, reach + 1)
    pixel = np.round(points).astype(np.int64)
    y, x = ((near + (pixel - points)[:, axis, None]).astype(np.float32) ** 2 for axis in (0, 1))
    ink = np.clip(np.float32(radius + 0.5) - np.sqrt(y[:, :, None] + x[:, None, :]), 0.0, 1.0)
    corner = (pixel[:, 0] + reach) * side + pixel[:, 1] + reach
    index = corner[:, None, None] + near[:, None] * side + near
    picture = np.zeros(side * side, np.float32)
    np.maximum.at(picture, index.ravel(), ink.ravel())
    return np.round(picture * 255).astype(np.uint8).reshape(side, side)[reach:-reach, reach:-reach]


def _class_names(split: str) -> list[str]:
    return [unicodedata.name(letter).lower() for letter in letters(split)]


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the drawings; `label` counts the letters of train, then val, then test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First drawings."}

    def _info(self) -> Any:
        names = [name for split in ("train", "val", "test") for name in _class_names(split)]
        return self.dataset_info_from_configs(
            description="Letters of printed scripts, drawn as if by hand from their skeletons; split by script.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=names),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        first, splits = 0, {}
        for split in ("train", "val", "test"):
            splits[split] = self._generate_examples(letters(split), first)
            first += len(letters(split))
        return splits

    def _generate_examples(self, chosen: Sequence[str], first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for label, letter in enumerate(chosen, start=first):
            for number in range(DRAWINGS):
                png = io.BytesIO()
                Image.fromarray(draw_letter(letter, number)).save(png, "png")
                # PNG bytes, not the array: encoding an array is TensorFlow's work.
                yield label * DRAWINGS + number, {"image": png.getvalue(), "label": label}
