"""ClassPool.from_arrays: sorted, counted, and refusing what does not fit."""

import jax
import jax.numpy as jnp
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


def test_booleans_are_black_and_white():
    pool = ClassPool.from_arrays(np.asarray([False, True, True]).reshape(3, 1, 1), np.asarray([0, 0, 0]))
    assert pool.x.ravel().tolist() == [0, 255, 255]
    assert pool.input_dtype == np.float32


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32, np.float32),
        (np.float64, np.float32),
        (np.float16, np.float32),
        (jnp.bfloat16, jnp.bfloat16),
        (np.int32, np.int32),
        (np.int64, np.int32),
        (np.uint16, np.int32),
    ],
)
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (4, 4, 3), (2, 3, 4, 2)])
def test_features_and_tokens_of_any_shape_keep_their_values(shape, given, kept, host):
    x = np.random.default_rng(0).integers(0, 200, (6, *shape)).astype(given)
    pool = ClassPool.from_arrays(x, np.asarray([1, 0, 1, 0, 1, 0]), host=host)
    assert pool.x.dtype == pool.input_dtype == kept
    assert pool.input_shape == shape
    assert pool.on_host == host
    np.testing.assert_array_equal(np.asarray(pool.x), x[[1, 3, 5, 0, 2, 4]].astype(kept))


def test_sorted_inputs_on_the_host_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    pool = ClassPool.from_arrays(mapped, np.repeat(np.arange(3), 2), host=True)
    assert np.shares_memory(pool.x, mapped)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_the_first_row_that_is_not_finite_is_named(monkeypatch, bad, dtype):
    monkeypatch.setattr("mtl_jax.data.pool.CHUNK", 16)  # several chunks
    x = np.zeros((50, 3), np.float64)
    x[[31, 47], 1] = bad
    with pytest.raises(ValueError, match=r"not finite .* in row 31:"):
        ClassPool.from_arrays(x.astype(dtype), np.zeros(50, int))


def test_floats_that_look_channels_first_are_taken_with_a_warning(caplog):
    pool = ClassPool.from_arrays(np.zeros((2, 3, 32, 32), np.float32), np.zeros(2, int))
    assert pool.input_shape == (3, 32, 32)
    assert "looks channels-first" in caplog.text


def test_pool_is_a_pytree_with_static_sizes():
    pool = ClassPool.from_arrays(np.zeros((3, 2, 2), np.uint8), np.asarray([0, 0, 1]))
    assert len(jax.tree.leaves(pool)) == 3
    assert jax.jit(lambda p: p.start + p.smallest)(pool).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("x", "y", "names", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), np.zeros(3, int), (), "do not fit"),
        (np.zeros((2, 2), np.uint8), np.zeros(2, int), (), "must be images"),
        (np.zeros(2), np.zeros(2, int), (), r"x\[:, None\]"),
        (np.zeros((0, 2, 2), np.uint8), np.zeros(0, int), (), "n > 0"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2), (), "integer labels"),
        (np.full((2, 2), 1e300), np.zeros(2, int), (), "not finite"),
        (np.full((2, 2), 2**40), np.zeros(2, int), (), "fit int32"),
        (np.full((2, 2), "a"), np.zeros(2, int), (), "uint8 images, floats or integer tokens"),
        (np.full((2, 2), 1j), np.zeros(2, int), (), "uint8 images, floats or integer tokens"),
        (np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, int), (), r"channels-first: pass np\.moveaxis\(x, 1, -1\)"),
        (np.zeros((2, 1, 28, 28), np.uint8), np.zeros(2, int), (), "channels-first"),
        (np.zeros((2, 128, 3), np.uint8), np.zeros(2, int), (), "3 pixels wide"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, int), ("a", "b"), "2 names for 1 classes"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, names, message):
    with pytest.raises(ValueError, match=message) as caught:
        ClassPool.from_arrays(x, y, names)
    assert "\n" not in str(caught.value)


def test_lists_are_taken_too():
    pool = ClassPool.from_arrays([[0.5], [1.5], [2.5]], [1, 0, 1], ["a", "b"])
    assert pool.x.tolist() == [[1.5], [0.5], [2.5]]
    assert pool.names == ("a", "b")
