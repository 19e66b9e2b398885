"""sample_batch: inputs of all classes at once, for pre-training, in the form that the trainer takes."""

import jax
import jax.numpy as jnp

from mtl_jax.data.augment import TURNED, augmented_classes, check_augment, turn, vary
from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array, Episode


def batch_classes(pool: ClassPool, augment: str = "none") -> int:
    """How many labels `sample_batch` gives: the pool's classes, or four or eight times as many (`sample_episode`).

    Raises:
        ValueError: an unknown augmentation, or one that does not suit the pool.
    """
    check_augment(pool, augment)
    return augmented_classes(pool.classes, augment)


def sample_batch(key: Array, pool: ClassPool, size: int = 64, augment: str = "none") -> Episode:
    """Draw inputs of any class, each as likely as the others, with their classes in the whole pool.

    Pure: the same key gives the same batch; jit it with `size` and `augment` static.

    Args:
        key: a JAX random key.
        pool: what to draw from: images, features or tokens.
        size: inputs, drawn with replacement.
        augment: as in `sample_episode`: "none", "rotations" (one of four per image, each a class of its own),
            "rotations_affine", "dihedral_affine", "dihedral_elastic", "flip_crop", "flip_crop_colours" or
            "rotations_flip_crop".

    Returns:
        Episode with query_x [size, ...], float32 in [0, 1] for uint8 images, else of the pool's dtype and values, and
        query_y [size] int32, the class in [0, batch_classes(pool, augment)) (class + rotation * pool.classes). There
        is nothing to adapt on: the support set is the first input alone, for what wants to see an input's shape, and
        `classes` is None.

    Raises:
        ValueError: a size below 1, an unknown augmentation, or one that does not suit the pool.
    """
    if size < 1:
        raise ValueError(f"a batch must hold at least 1 input, not {size}")
    batch_classes(pool, augment)
    image_key, augment_key = jax.random.split(key)
    drawn = jax.random.randint(image_key, (size,), 0, len(pool.x))
    x = pool.x[drawn]
    y = jnp.searchsorted(pool.start, drawn, side="right").astype(jnp.int32) - 1
    turns = jnp.zeros(size, jnp.int32)
    if augment in TURNED:
        turns = jax.random.randint(augment_key, (size,), 0, TURNED[augment])
        x = jax.vmap(lambda image, k: turn(image[None], k, augment)[0])(x, turns)
        y = y + turns * pool.classes
    keys = jax.random.split(augment_key if augment == "flip_crop" else jax.random.fold_in(augment_key, 1), size)
    return Episode(vary(keys[:1], x[:1], augment, turns[:1]), y[:1], vary(keys, x, augment, turns), y)
