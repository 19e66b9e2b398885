"""ClassPool.from_arrays: sorted, counted, and refusing what does not fit."""

import jax
import numpy as np
import pytest

from mtl_jax.data.pool import ClassPool


def test_images_are_sorted_by_class_and_keep_their_order_within():
    x = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    pool = ClassPool.from_arrays(x, np.asarray([7, -1, 7, 3, -1, 7]), names=("a", "b", "c"))
    assert pool.x.shape == (6, 2, 2, 1)
    assert pool.x[:, 0, 0, 0].tolist() == [1, 4, 3, 0, 2, 5]
    assert pool.start.tolist() == [0, 2, 3]
    assert pool.count.tolist() == [2, 1, 3]
    assert (pool.classes, pool.smallest, pool.largest, pool.names) == (3, 1, 3, ("a", "b", "c"))


def test_sorted_images_stay_as_they_are_and_are_a_copy():
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 3, 3), np.uint8)
    kept = x.copy()
    pool = ClassPool.from_arrays(x, np.asarray([0, 0, 1, 1]))
    x[:] = 0
    np.testing.assert_array_equal(pool.x, kept)


def test_floats_become_bytes():
    pool = ClassPool.from_arrays(np.asarray([0.0, 0.5, 1.0]).reshape(3, 1, 1), np.asarray([0, 0, 0]))
    assert pool.x.ravel().tolist() == [0, 128, 255]


def test_pool_is_a_pytree_with_static_sizes():
    pool = ClassPool.from_arrays(np.zeros((3, 2, 2), np.uint8), np.asarray([0, 0, 1]))
    assert len(jax.tree.leaves(pool)) == 3
    assert jax.jit(lambda p: p.start + p.smallest)(pool).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("x", "y", "names", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), np.zeros(3, int), (), "do not fit"),
        (np.zeros((2, 2), np.uint8), np.zeros(2, int), (), "do not fit"),
        (np.zeros((0, 2, 2), np.uint8), np.zeros(0, int), (), "n > 0"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2), (), "integer labels"),
        (np.full((2, 2, 2), 1.5), np.zeros(2, int), (), r"\[0, 1\]"),
        (np.full((2, 2, 2), np.nan), np.zeros(2, int), (), r"\[0, 1\]"),
        (np.full((2, 2, 2), 300), np.zeros(2, int), (), r"\[0, 255\]"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, int), ("a", "b"), "2 names for 1 classes"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, names, message):
    with pytest.raises(ValueError, match=message):
        ClassPool.from_arrays(x, y, names)
