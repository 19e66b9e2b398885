"""Augmentations of images while they are drawn: which there are, which pools each suits, and what each does."""

import jax
import jax.numpy as jnp

from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array

AUGMENTATIONS = ("none", "rotations", "flip_crop")


def check_augment(pool: ClassPool, augment: str) -> None:
    """Raise ValueError unless the augmentation exists and suits the pool's inputs."""
    if augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
    if augment == "none":
        return
    shape, dtype = pool.input_shape, pool.x.dtype
    if len(shape) != 3 or shape[2] not in (1, 3) or dtype == jnp.int32:
        raise ValueError(
            f"{augment} is for images [height, width, 1 or 3], not inputs {list(shape)} of {dtype}: take augment='none'"
        )
    if augment == "rotations" and shape[0] != shape[1]:
        raise ValueError(f"rotations need square images, not {shape[0]}x{shape[1]}")


def augmented_classes(classes: int, augment: str) -> int:
    """How many classes there are to draw: under "rotations", each counts once per quarter turn."""
    return classes * (4 if augment == "rotations" else 1)


def to_float(x: Array) -> Array:
    """Inputs as a network takes them: uint8 images become float32 in [0, 1], all else stays."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


def rotate(x: Array, quarter_turns: Array) -> Array:
    """x [n, side, side, channels] turned counter-clockwise by a traced number of quarter turns."""
    return jax.lax.switch(quarter_turns, [lambda a, k=k: jnp.rot90(a, k, axes=(1, 2)) for k in range(4)], x)


def flip_crop(key: Array, x: Array) -> Array:
    """x [height, width, channels] mirrored with probability 1/2, then cropped from a 4-pixel zero padding."""
    flip_key, crop_key = jax.random.split(key)
    x = jnp.where(jax.random.bernoulli(flip_key), x[:, ::-1], x)
    top, left = jax.random.randint(crop_key, (2,), 0, 9)
    return jax.lax.dynamic_slice(jnp.pad(x, ((4, 4), (4, 4), (0, 0))), (top, left, jnp.int32(0)), x.shape)
