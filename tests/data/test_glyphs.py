"""glyphs: the letters are distinct, the drawings differ, and every one can be drawn again to the bit."""

import numpy as np
import pytest

from mtl_jax.data import datasets
from mtl_jax.data.sets import glyphs_builder as builder

SPLITS = ("train", "val", "test")


def test_a_dozen_scripts_each_in_one_split():
    names = [script for split in SPLITS for script in builder.scripts(split)]
    assert len(names) == len(set(names)) >= 12
    letters = "".join(builder.letters(split) for split in SPLITS)
    assert len(letters) == len(set(letters)) > 1600
    assert {split: len(builder.letters(split)) for split in SPLITS} == datasets.info("glyphs").classes


def test_no_two_letters_have_the_same_undistorted_picture():
    pictures = {}
    for letter in "".join(builder.letters(split) for split in SPLITS):
        picture = builder._render(letter, "DejaVuSans")
        rows, cols = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
        picture = picture[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]  # where it stands makes no class
        pictures.setdefault((picture.shape, picture.tobytes()), []).append(letter)
    assert not [same for same in pictures.values() if len(same) > 1]


@pytest.mark.parametrize("letter", ["a", "ⵥ", "⠿", "ש"])
def test_drawings_repeat_to_the_bit_and_differ_by_number(letter):
    first = [builder.draw_letter(letter, n) for n in range(20)]
    builder.letter_skeletons.cache_clear()
    again = [builder.draw_letter(letter, n) for n in reversed(range(20))][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) == 20
    assert first[0].shape == (28, 28)
    assert first[0].dtype == np.uint8


def test_skeletons_are_thin_and_lose_no_dot():
    for dots, letter in ((6, "⠿"), (1, "⠁"), (4, "⠛")):
        for points in builder.letter_skeletons(letter):
            apart = np.abs(points[:, None] - points).max(-1) > 2
            assert _groups(apart) == dots
    bar = np.zeros((1, 20, 30), bool)
    bar[:, 8:12, 4:26] = True
    thin = builder._thin(bar)[0]
    assert (thin.sum(0)[8:22] == 1).all(), "a bar four pixels thick becomes a line one pixel thick"
    assert not (thin & ~bar[0]).any()


def _groups(apart):
    """How many groups there are of points that are not apart from one of their group."""
    left, groups = set(range(len(apart))), 0
    while left:
        groups, front = groups + 1, {left.pop()}
        while front:
            front = {j for j in left if any(not apart[i, j] for i in front)}
            left -= front
    return groups


def test_pen_paints_a_disc_of_its_radius():
    ink = builder._ink(np.asarray([[14.0, 10.0]]), 2.0)
    y, x = np.mgrid[:28, :28]
    distance = np.hypot(y - 14, x - 10)
    assert (ink[distance <= 1.5] == 255).all()
    assert (ink[distance >= 2.5] == 0).all()
    assert ink[14, 12] == 128


def test_pool_holds_what_is_drawn(glyphs):
    pool = glyphs("val")
    assert (pool.classes, pool.smallest, pool.largest) == (100, 20, 20)
    assert pool.x.shape == (2000, 28, 28, 1)
    letters = builder.letters("val")
    for i in (0, 41, 99):
        np.testing.assert_array_equal(pool.x[20 * i + 3, ..., 0], builder.draw_letter(letters[i], 3))
        assert pool.names[i] == builder.unicodedata.name(letters[i]).lower()


def test_splits_share_no_class(glyphs):
    names = {split: set(glyphs(split).names) for split in SPLITS}
    assert {split: len(found) for split, found in names.items()} == datasets.info("glyphs").classes
    assert not names["train"] & names["val"]
    assert not (names["train"] | names["val"]) & names["test"]


def test_drawings_fill_their_frames_as_handwriting_does(glyphs):
    x = np.asarray(glyphs("test").x)[..., 0]
    assert x.max((1, 2)).min() > 200, "no drawing is blank or faint"
    assert 0.05 < (x > 127).mean() < 0.15  # of Omniglot: 0.08
    edge = np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    assert ((edge > 127).any(1)).mean() < 0.1, "ink seldom touches the edge"
