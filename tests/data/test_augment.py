"""What bends an image, and what changes its colours: by how much, and that nothing else is changed by it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.data.augment import distort, distort_and_bend, scale_colours, variation_of
from mtl_jax.data.episodes import sample_episode
from mtl_jax.data.pool import ClassPool

SIDE = 28
# Inputs are rows and columns: what comes out says where each pixel was taken from.
WHERE = np.stack(np.meshgrid(*2 * [np.arange(SIDE, dtype=np.float32)], indexing="ij"), -1)


@pytest.fixture(scope="module")
def moved():
    """[keys, SIDE, SIDE, 2]: how much further each pixel is moved than by the affine map of the same key."""
    keys = jax.random.split(jax.random.key(0), 600)
    bent, straight = (jax.vmap(partial(f, x=WHERE))(keys) for f in (distort_and_bend, distort))
    return np.asarray(bent - straight, np.float64)


def test_points_of_a_grid_of_four_by_four_move_by_a_share_of_the_sides(moved):
    inner = moved[:, 10:18:7, 10:18:7]  # the middle four, which no edge stops
    np.testing.assert_allclose(inner.std(0), 0.04 * SIDE, rtol=0.12)
    np.testing.assert_allclose(inner.mean(0), 0.0, atol=4 * 0.04 * SIDE / np.sqrt(600))
    flat = inner.reshape(600, 8)
    assert np.abs(np.corrcoef(flat.T) - np.eye(8)).max() < 0.2  # each by draws of its own, in each direction


def test_what_lies_between_moves_smoothly(moved):
    inner = moved[:, 8:20, 8:20]
    size = inner.std()
    assert size > 0.5
    assert np.diff(inner, axis=1).std() < 0.25 * size  # 1.4 of independent draws
    assert np.diff(inner, 2, axis=1).std() < 0.15 * size  # 2.4 of independent draws


def test_without_bending_it_is_the_affine_map():
    x = jax.random.uniform(jax.random.key(1), (9, 12, 3))
    np.testing.assert_array_equal(distort(jax.random.key(2), x, bend=0.0), distort(jax.random.key(2), x))
    assert distort_and_bend(jax.random.key(2), x).shape == x.shape
    half = distort_and_bend(jax.random.key(2), x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), distort_and_bend(jax.random.key(2), x), atol=1e-2)


def test_episodes_have_the_classes_of_mirror_images_each_bent():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(3), 4))
    draw = partial(sample_episode, jax.random.key(5), pool, 24, 1, 2)
    affine, elastic = draw("dihedral_affine"), draw("dihedral_elastic")
    np.testing.assert_array_equal(affine.classes, elastic.classes)
    assert sorted(elastic.classes.tolist()) == list(range(24))
    changed = np.abs(np.asarray(affine.query_x - elastic.query_x)).max((1, 2, 3))
    assert changed.min() > 0.02
    assert variation_of("dihedral_elastic") == "elastic"


def greys(x):
    return np.asarray(x, np.float64) @ [0.299, 0.587, 0.114]


def test_colours_are_scaled_by_three_factors_of_their_own():
    keys = jax.random.split(jax.random.key(0), 500)
    scaled = jax.jit(jax.vmap(scale_colours, (0, None)))
    flat, ramp = jnp.full((4, 4, 3), 0.5), jnp.linspace(0.4, 0.6, 16).reshape(4, 4, 1)
    brightness = np.asarray(scaled(keys, flat), np.float64).mean((1, 2, 3)) / 0.5
    spread = np.asarray(scaled(keys, jnp.tile(ramp, 3)), np.float64).std((1, 2, 3)) / float(ramp.std())
    contrast = spread / brightness
    red = jnp.tile(jnp.asarray([0.5, 0.45, 0.45]), (4, 4, 1))
    apart = np.asarray(scaled(keys, red), np.float64)[:, 0, 0]
    saturation = (apart[:, 0] - apart[:, 1]) / 0.05 / brightness / contrast
    factors = np.stack((brightness, contrast, saturation))
    assert (np.abs(factors - 1) < 0.4 + 1e-4).all()
    np.testing.assert_allclose(factors.std(1), 0.8 / np.sqrt(12), rtol=0.1)
    assert np.abs(np.corrcoef(factors) - np.eye(3)).max() < 0.2

    x = np.random.default_rng(0).uniform(size=(6, 7, 3))
    for b, c, s, got in zip(*factors, scaled(keys, jnp.asarray(x, jnp.float32)), strict=True):
        want = np.clip(b * x, 0, 1)
        mean = greys(want).mean()
        want = np.clip(mean + c * (want - mean), 0, 1)
        grey = greys(want)[..., None]
        np.testing.assert_allclose(got, np.clip(grey + s * (want - grey), 0, 1), atol=1e-4)


def test_grey_images_have_no_saturation_to_scale():
    x = jax.random.uniform(jax.random.key(1), (5, 5, 1))
    three = scale_colours(jax.random.key(2), jnp.tile(x, 3))
    np.testing.assert_allclose(jnp.tile(scale_colours(jax.random.key(2), x), 3), three, atol=1e-6)


def test_episodes_of_changed_colours_are_those_of_flip_crop_with_them_changed():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(3), 4))
    plain, changed = (sample_episode(jax.random.key(5), pool, 3, 1, 2, a) for a in ("flip_crop", "flip_crop_colours"))
    np.testing.assert_array_equal(plain.classes, changed.classes)
    keys = jax.random.split(jax.random.split(jax.random.key(5), 3)[2], (3, 3))[:, 1:].reshape(-1)
    want = jax.vmap(lambda k, x: scale_colours(jax.random.fold_in(k, 1), x))(keys, plain.query_x)
    np.testing.assert_allclose(changed.query_x, want, atol=1e-6)
    assert float(jnp.abs(changed.query_x - plain.query_x).max((1, 2, 3)).min()) > 0.02
    assert variation_of("flip_crop_colours") == "flip_crop"


def test_colours_of_floats_are_refused_since_their_range_is_not_known():
    pool = ClassPool.from_arrays(np.zeros((4, 8, 8, 3), np.float32), np.repeat(np.arange(2), 2))
    with pytest.raises(ValueError, match=r"flip_crop_colours is for uint8 images, .* not float32: take .*'flip_crop'"):
        sample_episode(jax.random.key(0), pool, 2, 1, 1, "flip_crop_colours")
