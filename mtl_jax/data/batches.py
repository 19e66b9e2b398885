"""sample_batch: images of all classes at once, for pre-training, in the form that the trainer takes."""

import jax
import jax.numpy as jnp

from mtl_jax.data.episodes import AUGMENTATIONS, _flip_crop, _rotate
from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array, Episode


def batch_classes(pool: ClassPool, augment: str = "none") -> int:
    """How many labels `sample_batch` gives: the pool's classes, four times as many under "rotations".

    Raises:
        ValueError: an unknown augmentation, or rotations of images that are not square.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
    height, width = pool.x.shape[1:3]
    if augment == "rotations" and height != width:
        raise ValueError(f"rotations need square images, not {height}x{width}")
    return pool.classes * (4 if augment == "rotations" else 1)


def sample_batch(key: Array, pool: ClassPool, size: int = 64, augment: str = "none") -> Episode:
    """Draw images of any class, each as likely as the others, with their classes in the whole pool.

    Pure: the same key gives the same batch; jit it with `size` and `augment` static.

    Args:
        key: a JAX random key.
        pool: the images to draw from.
        size: images, drawn with replacement.
        augment: as in `sample_episode`: "none", "rotations" (one of four an image, each a class of its own) or
            "flip_crop".

    Returns:
        Episode with query_x [size, height, width, channels] float32 in [0, 1] and query_y [size] int32, the class in
        [0, batch_classes(pool, augment)) (class + rotation * pool.classes). There is nothing to adapt on: the support
        set is the first image alone, for what wants to see an input's shape, and `classes` is None.

    Raises:
        ValueError: a size below 1, an unknown augmentation, or rotations of images that are not square.
    """
    if size < 1:
        raise ValueError(f"a batch must hold at least 1 image, not {size}")
    batch_classes(pool, augment)
    image_key, augment_key = jax.random.split(key)
    drawn = jax.random.randint(image_key, (size,), 0, len(pool.x))
    x = pool.x[drawn]
    y = jnp.searchsorted(pool.start, drawn, side="right").astype(jnp.int32) - 1
    if augment == "rotations":
        turns = jax.random.randint(augment_key, (size,), 0, 4)
        x = jax.vmap(lambda image, k: _rotate(image[None], k)[0])(x, turns)
        y = y + turns * pool.classes
    elif augment == "flip_crop":
        x = jax.vmap(_flip_crop)(jax.random.split(augment_key, size), x)
    x = x.astype(jnp.float32) / 255.0
    return Episode(x[:1], y[:1], x, y)
