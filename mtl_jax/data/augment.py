"""Augmentations of images while they are drawn: which there are, which pools each suits, and what each does."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from mtl_jax.data.augmentations import AUGMENTATIONS as AUGMENTATIONS
from mtl_jax.data.augmentations import VARIATIONS
from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array

# How many classes each class becomes.
TURNED = {"rotations": 4, "rotations_affine": 4, "dihedral_affine": 8, "dihedral_elastic": 8, "rotations_flip_crop": 4}
DISTORTED = ("rotations_affine", "dihedral_affine")
BENT = ("dihedral_elastic",)
CROPPED = ("flip_crop", "flip_crop_colours", "rotations_flip_crop")
COLOURED = ("flip_crop_colours",)


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
    if augment in TURNED and shape[0] != shape[1]:
        raise ValueError(f"rotations need square images, not {shape[0]}x{shape[1]}")
    if augment in COLOURED and dtype != jnp.uint8:  # floats may be of any range, and a brightness has one
        raise ValueError(f"{augment} is for uint8 images, whose range is known, not {dtype}: take augment='flip_crop'")


def augmented_classes(classes: int, augment: str) -> int:
    """How many classes there are to draw: each counts once per quarter turn, and twice that with its mirror images."""
    return classes * TURNED.get(augment, 1)


def to_float(x: Array) -> Array:
    """Inputs as a network takes them: uint8 images become float32 in [0, 1], all else stays."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


def turn(x: Array, which: Array, augment: str) -> Array:
    """x [n, side, side, channels] turned counter-clockwise by `which` quarter turns; from 4 on, of its mirror image.

    Args:
        x: images.
        which: [] int32, traced, below TURNED[augment].
        augment: one of TURNED.

    Returns:
        Images of x's shape and dtype.
    """

    def turned(x: Array, k: int) -> Array:
        return jnp.rot90(x[:, :, ::-1] if k >= 4 else x, k, axes=(1, 2))

    return jax.lax.switch(which, [partial(turned, k=k) for k in range(TURNED[augment])], x)


def flip_crop(key: Array, x: Array, turns: Array | int = 0) -> Array:
    """x [height, width, channels] mirrored with probability 1/2, then cropped from a 4-pixel zero padding.

    Args:
        key: a JAX random key.
        x: an image.
        turns: quarter turns that x has been given. One that lies on its side is mirrored top to bottom: its mirror
            image turned by as many, and not one of another class of "rotations_flip_crop".

    Returns:
        The image of x's shape and dtype.
    """
    flip_key, crop_key = jax.random.split(key)
    mirrored = jnp.where(turns % 2 == 1, x[::-1], x[:, ::-1])
    x = jnp.where(jax.random.bernoulli(flip_key), mirrored, x)
    top, left = jax.random.randint(crop_key, (2,), 0, 9)
    return jax.lax.dynamic_slice(jnp.pad(x, ((4, 4), (4, 4), (0, 0))), (top, left, jnp.int32(0)), x.shape)


def scale_colours(key: Array, x: Array) -> Array:
    """x [height, width, 1 or 3] in [0, 1] with brightness, contrast and saturation each multiplied by 0.6 to 1.4.

    b x,  m + c (x - m) with m the mean grey of the image,  g + s (x - g) with g each pixel's grey; each cut to [0, 1].

    Args:
        key: a JAX random key.
        x: an image of floats.

    Returns:
        The image of x's shape and dtype.

    Reference: Lee et al. 2019, arXiv 1904.03758; Tian et al. 2020, arXiv 2003.11539, which train so.
    """

    def grey(x: Array) -> Array:  # as the eye weighs red, green and blue (ITU-R BT.601)
        return x @ jnp.asarray([0.299, 0.587, 0.114], x.dtype)[:, None] if x.shape[-1] == 3 else x

    brightness, contrast, saturation = jax.random.uniform(key, (3,), x.dtype, 0.6, 1.4)
    x = jnp.clip(brightness * x, 0.0, 1.0)
    mean = grey(x).mean()
    x = jnp.clip(mean + contrast * (x - mean), 0.0, 1.0)
    return jnp.clip(grey(x) + saturation * (x - grey(x)), 0.0, 1.0)


def distort(key: Array, x: Array, bend: float = 0.0) -> Array:
    """x [height, width, channels] under a random affine map about its centre, the edge's values continued outwards.

    Turned by up to 15 degrees, each side's length multiplied by 0.85 to 1.15, sheared by up to 0.15, moved by up to
    1/14 of its sides; linear between pixels.

    Args:
        key: a JAX random key.
        x: floats.
        bend: also move 4 x 4 points of it, and smoothly what lies between, by normal draws of this standard deviation,
            a share of its sides.

    Returns:
        The image of x's shape and dtype.
    """
    dtype = x.dtype if jnp.finfo(x.dtype).bits > 16 else jnp.float32  # 8 bits would not place a pixel
    turn, high, wide, shear, *move = jax.random.uniform(key, (6,), dtype, -1.0, 1.0)
    turn, shear = turn * (jnp.pi / 12), shear * 0.15
    cos, sin, high, wide = jnp.cos(turn), jnp.sin(turn), 1.0 + 0.15 * high, 1.0 + 0.15 * wide
    height, width = x.shape[:2]
    down, right = jnp.meshgrid(*(jnp.arange(n, dtype=dtype) - (n - 1) / 2 for n in (height, width)), indexing="ij")
    down, right = down / high, right / wide + shear * down
    rows = cos * down - sin * right + ((height - 1) / 2 + move[0] * (height / 14))
    columns = sin * down + cos * right + ((width - 1) / 2 + move[1] * (width / 14))
    if bend:
        drawn = jax.random.normal(jax.random.fold_in(key, 1), (2, 4, 4), dtype)
        moved = jax.image.resize(drawn, (2, height, width), "cubic")
        rows, columns = rows + bend * height * moved[0], columns + bend * width * moved[1]
    at = partial(map_coordinates, coordinates=[rows, columns], order=1, mode="nearest")
    return jnp.stack([at(x[..., c].astype(dtype)) for c in range(x.shape[2])], -1).astype(x.dtype)


def distort_and_bend(key: Array, x: Array) -> Array:
    """`distort`, with 4 x 4 points of the image moved by 1/25 of its sides (one standard deviation)."""
    return distort(key, x, bend=0.04)


VARY_BY = dict(zip(VARIATIONS, (flip_crop, distort, distort_and_bend), strict=True))  # each of one image, by its name


def variation_of(augment: str | None) -> str | None:
    """Which of VARIATIONS an augmentation does to each image; None where it does neither."""
    of = zip(VARIATIONS, (CROPPED, DISTORTED, BENT), strict=True)
    return next((name for name, those in of if augment in those), None)


def check_images(what: str, x: Array) -> None:
    """Raise ValueError unless x are images [n, height, width, 1 or 3] of floats, which `what` is of."""
    if x.ndim != 4 or x.shape[3] not in (1, 3) or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{what} are of images [n, height, width, 1 or 3] of floats, not {x.dtype} {list(x.shape)}")


def vary(keys: Array, x: Array, augment: str, turns: Array) -> Array:
    """Inputs as a network takes them (`to_float`), each image varied at random as `augment` says; its turns apart.

    Give it what will stay together: of a result that is cut afterwards, a CPU's program computes the map of `distort`
    once for each cut of each pixel, which is forty times as slow.

    Args:
        keys: random keys [n].
        x: inputs [n, ...]; images, uint8 or float, unless `augment` leaves them as they are.
        augment: one of AUGMENTATIONS.
        turns: how each was turned, [n] int32 (`turn`); looked at for "rotations_flip_crop" alone.

    Returns:
        Inputs of x's shape.
    """
    if augment in CROPPED:  # uint8 until the end: a quarter of the bytes to move
        x = jax.vmap(flip_crop)(keys, x, turns) if augment in TURNED else jax.vmap(flip_crop)(keys, x)
    x = to_float(x)
    if augment in COLOURED:
        return jax.vmap(lambda key, x: scale_colours(jax.random.fold_in(key, 1), x))(keys, x)
    if augment in BENT:
        return jax.vmap(distort_and_bend)(keys, x)
    return jax.vmap(distort)(keys, x) if augment in DISTORTED else x


def translate(key: Array, x: Array, share: float = 0.125) -> Array:
    """Each of x [n, height, width, channels] moved by up to a share of its sides, zeros coming in.

    Raises:
        ValueError: x is of another shape, or holds no floats (while tracing).
    """
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"only images or maps [n, height, width, channels] can be moved, not {x.dtype} {list(x.shape)}"
        )
    most = [max(1, round(share * side)) for side in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *((m, m) for m in most), (0, 0)))

    def moved(key: Array, image: Array) -> Array:
        place = jax.random.randint(key, (2,), 0, 2 * jnp.asarray(most) + 1)
        return jax.lax.dynamic_slice(image, (place[0], place[1], jnp.int32(0)), x.shape[1:])

    return jax.vmap(moved)(jax.random.split(key, len(x)), padded)


def change_colours(key: Array, x: Array) -> Array:
    """Each image of x [n, height, width, 1 or 3] in [0, 1] with brightness, saturation and contrast drawn.

    Brightness is moved by up to 1/2, the distance to grey multiplied by up to 2, that to the mean by 1/2 to 3/2.

    Raises:
        ValueError: x is of another shape, or holds no floats (while tracing).

    Reference: Zhao et al. 2020, arXiv 2006.10738.
    """
    check_images("colours", x)
    shift, colour, contrast = jax.random.uniform(key, (3, len(x), 1, 1, 1), x.dtype)
    x = x + shift - 0.5
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * 2.0 * colour
    mean = x.mean((1, 2, 3), keepdims=True)
    return mean + (x - mean) * (contrast + 0.5)
