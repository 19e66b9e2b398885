"""sample_batch: every image as likely as the others, and the class that it has in the pool."""

import jax
import numpy as np
import pytest

from mtl_jax.data.augment import AUGMENTATIONS
from mtl_jax.data.batches import batch_classes, sample_batch
from mtl_jax.data.pool import ClassPool

COUNTS = (3, 9, 1, 6, 5)  # images of each class
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)
SIDE = 8


@pytest.fixture(scope="module")
def ragged():
    """Image i is i + 1 at its top left corner and 0 elsewhere, so that a quarter turn shows."""
    x = np.zeros((len(LABELS), SIDE, SIDE, 1), np.uint8)
    x[:, 0, 0, 0] = np.arange(len(LABELS)) + 1
    return ClassPool.from_arrays(x, LABELS)


def drawn(batch):
    """Which image of the pool each one is: its largest value."""
    return np.round(np.asarray(batch.query_x).max((1, 2, 3)) * 255).astype(int) - 1


def test_labels_are_the_pools_and_every_image_is_as_likely(ragged, key):
    batch = sample_batch(key, ragged, 4800)
    image = drawn(batch)
    np.testing.assert_array_equal(batch.query_y, LABELS[image])
    assert batch.query_x.shape == (4800, SIDE, SIDE, 1)
    assert (batch.query_x.dtype, batch.query_y.dtype, batch.classes) == (np.float32, np.int32, None)
    count = np.bincount(image, minlength=len(LABELS))
    chi2 = ((count - 200) ** 2 / 200).sum()
    assert chi2 < 49.7  # 23 degrees of freedom: one key in a thousand is above
    for support, query in ((batch.support_x, batch.query_x), (batch.support_y, batch.query_y)):
        np.testing.assert_array_equal(support, query[:1])


def test_rotations_are_classes_of_their_own(ragged, key):
    batch = sample_batch(key, ragged, 400, "rotations")
    turns, y = np.divmod(np.asarray(batch.query_y), ragged.classes)
    np.testing.assert_array_equal(y, LABELS[drawn(batch)])
    corner = np.zeros((SIDE, SIDE))
    corner[0, 0] = 1
    for image, k in zip(np.asarray(batch.query_x)[..., 0], turns, strict=True):
        np.testing.assert_array_equal(image > 0, np.rot90(corner, k) > 0)
    assert set(turns) == {0, 1, 2, 3}
    assert batch_classes(ragged, "rotations") == 20
    assert batch_classes(ragged, "dihedral_affine") == 40
    assert batch_classes(ragged) == 5


def test_mirror_images_are_labels_of_their_own(key):
    """Of one image, an upside-down L with arms of two lengths: no small map makes one of its eight forms another."""
    x = np.zeros((1, 9, 9, 1), np.uint8)
    x[0, 0, :5], x[0, :, 0] = 255, 255
    batch = sample_batch(key, ClassPool.from_arrays(x, np.zeros(1, int)), 200, "dihedral_affine")
    labels, images = np.asarray(batch.query_y), np.asarray(batch.query_x)[..., 0]
    assert set(labels) == set(range(8))
    kinds = [np.rot90(x[0, :, ::-1, 0] if k > 3 else x[0, ..., 0], k % 4) / 255 for k in range(8)]
    nearest = [np.square(image - kinds).sum((1, 2)).argmin() for image in images]
    assert (nearest == labels).mean() > 0.9


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_same_key_same_batch_jitted_and_another_key_another(ragged, key, augment):
    jitted = jax.jit(sample_batch, static_argnums=(2, 3))
    for one, two in zip(sample_batch(key, ragged, 12, augment), jitted(key, ragged, 12, augment), strict=True):
        if one is not None:
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-7)
    other = jitted(jax.random.key(1), ragged, 12, augment)
    assert (np.asarray(other.query_y) != np.asarray(jitted(key, ragged, 12, augment).query_y)).any()


def test_crops_move_and_mirror_each_image_by_itself(key):
    x = np.zeros((1, 16, 16, 1), np.uint8)
    x[0, 6, 9] = 255
    batch = sample_batch(key, ClassPool.from_arrays(x, np.zeros(1, int)), 64, "flip_crop")
    where = {tuple(np.argwhere(image)[0][:2]) for image in np.asarray(batch.query_x)}
    assert len(where) > 20
    assert all(2 <= i <= 10 and 2 <= j <= 13 for i, j in where)


def test_bad_requests_are_refused(ragged, key):
    with pytest.raises(ValueError, match="at least 1 input, not 0"):
        sample_batch(key, ragged, 0)
    with pytest.raises(ValueError, match="unknown augmentation 'flip'"):
        sample_batch(key, ragged, 2, "flip")
    wide = ClassPool.from_arrays(np.zeros((2, 4, 6, 1), np.uint8), np.arange(2))
    with pytest.raises(ValueError, match="square images, not 4x6"):
        batch_classes(wide, "rotations")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_features_and_tokens_are_drawn_as_they_are(dtype, key):
    x = np.arange(2 * len(LABELS), dtype=dtype).reshape(-1, 2)
    batch = sample_batch(key, ClassPool.from_arrays(x, LABELS), 50)
    assert batch.query_x.dtype == dtype
    row = np.asarray(batch.query_x)[:, 0].astype(int) // 2
    np.testing.assert_array_equal(batch.query_x, x[row])
    np.testing.assert_array_equal(batch.query_y, LABELS[row])
