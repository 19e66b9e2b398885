"""The elastic augmentation: what bends an image, by how much, and that nothing else is changed by it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.data.augment import distort, distort_and_bend, variation_of
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
