"""What the backbones share: inputs made ready, convolutions whose normalisation is frozen, and a head on top."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.types import Array, Model, PyTree

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation, RGB in [0, 1]


def backbone(
    body: Callable[[Array, Any], dict[str, Any]],
    features: Callable[[PyTree, Array], Array],
    width: int,
    ways: int | None,
    mean: Sequence[float],
    std: Sequence[float],
    pixels: int,
    check: Callable[[Array], None],
) -> Model:
    """A Model of images in [0, 1], from the two functions that tell one architecture from another.

    outputs = features(body, (x - mean) / std) [kernel + bias, given a head]

    Args:
        body: (key, dtype) -> fresh parameters without a head, a dict.
        features: (params, x normalised [n, h, w, 3]) -> [n, width].
        width: features of an image.
        ways: outputs of the linear head; None for the features alone.
        mean, std: of the three channels, for x in [0, 1].
        pixels: of how many pixels a CPU takes images at once, as `in_chunks` does.
        check: raises ValueError where x's size does not suit.

    Returns:
        Model; its stats are None, since every image is independent of all others.

    Raises:
        ValueError: ways below 1, or mean and std that are not three numbers each, std above 0.
    """
    return _model(body, of_images(features, mean, std, pixels, check), width, ways)


def over_maps(
    body: Callable[[Array, Any], dict[str, Any]],
    features: Callable[[PyTree, Array], Array],
    width: int,
    ways: int | None,
    channels: int,
) -> Model:
    """A Model of the maps that a backbone has after one of its blocks: what comes past that block.

    Args:
        body, features, width, ways: as in `backbone`, of the layers past the block; features takes maps [n, h, w, c].
        channels: of the maps.

    Returns:
        Model for x [n, h, w, channels] float.

    Raises:
        ValueError: ways below 1.
    """

    def forward(params: PyTree, x: Array) -> Array:
        x = jnp.asarray(x)
        if x.ndim != 4 or x.shape[3] != channels or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"this part of a backbone wants maps [n, h, w, {channels}], not {x.dtype} {x.shape}")
        return features(params, x)

    return _model(body, forward, width, ways)


def _model(
    body: Callable[[Array, Any], dict[str, Any]],
    forward: Callable[[PyTree, Array], Array],
    width: int,
    ways: int | None,
) -> Model:
    if ways is not None and ways < 1:
        raise ValueError(f"ways must be at least 1, not {ways}")

    def init(key: Array, x: Array) -> dict[str, Any]:
        body_key, head_key = jax.random.split(key)
        params = body(body_key, x.dtype)
        return params if ways is None else {**params, "head": fresh_head(head_key, width, ways, x.dtype)}

    @broadcasting
    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        y = forward(params, x)
        if "head" in params:
            y = y @ params["head"]["kernel"] + params["head"]["bias"]
        return y, None

    return Model(init, apply)


def of_images(
    features: Callable[[PyTree, Array], Array],
    mean: Sequence[float],
    std: Sequence[float],
    pixels: int,
    check: Callable[[Array], None],
) -> Callable[[PyTree, Array], Array]:
    """(params, images [n, h, w, 3 or 1] in [0, 1]) -> what `features` gives of them, normalised; see `backbone`."""
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean and std are three numbers each, std above 0, not {tuple(mean)} and {tuple(std)}")

    def forward(params: PyTree, x: Array) -> Array:
        x = jnp.asarray(x)
        if x.ndim != 4 or x.shape[3] not in (1, 3) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"a backbone wants float images in [0, 1], [n, height, width, 3 or 1], not {x.dtype} {x.shape}"
            )
        check(x)
        about = jnp.asarray(mean, x.dtype), jnp.asarray(std, x.dtype)
        return in_chunks(lambda x: features(params, (x - about[0]) / about[1]), x, pixels)  # grey becomes RGB

    return forward


def first_block(after: int | None, blocks: int) -> int:
    """The first block past `after`, 0 where it is None; ValueError where no block of so many comes past it."""
    if after is None:
        return 0
    if not 0 <= after < blocks - 1:
        raise ValueError(f"after is a block from 0 to {blocks - 2}, one before the last of {blocks}, not {after}")
    return after + 1


def through_blocks(
    blocks: Sequence[Callable[[PyTree, Array], Array]], params: PyTree, x: Array, first: int = 0
) -> Array:
    """The maps that come out of blocks, in order, whose parameters are those of block{first} and on."""
    for i, block in enumerate(blocks, start=first):
        x = block(params[f"block{i}"], x)
    return x


def halves(params: PyTree, after: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A backbone's parameters as (stem and the blocks up to this one, all that comes past it)."""
    below = {"stem", *(f"block{i}" for i in range(after + 1))}
    return {k: v for k, v in params.items() if k in below}, {k: v for k, v in params.items() if k not in below}


def in_chunks(forward: Callable[[Array], Array], x: Array, pixels: int) -> Array:
    """`forward` of a few images at a time on a CPU, whose caches then hold their maps; of all at once elsewhere.

    Measured on two cores, 32 images of 224 pixels through EfficientNet-Lite0: 41 images per second at once, 109 in
    chunks of two; of 128 pixels 170 and 419 (chunks of four); ResNet-18 43 and 48 (chunks of eight).

    A number of images that is a symbol (jax.export) is of a program for every backend: all at once.

    Args:
        forward: [m, h, w, c] -> [m, ...], each image by itself.
        x: [n, h, w, c].
        pixels: of a chunk.

    Returns:
        [n, ...].
    """
    if not isinstance(x.shape[0], int):
        return forward(x)
    most = max(1, pixels // (x.shape[1] * x.shape[2]))
    chunks = -(-len(x) // most)
    if chunks < 2 or jax.default_backend() != "cpu":
        return forward(x)
    size = -(-len(x) // chunks)
    y = jnp.pad(x, ((0, chunks * size - len(x)), (0, 0), (0, 0), (0, 0)))
    y = jax.lax.map(forward, y.reshape(chunks, size, *x.shape[1:]))
    return y.reshape(chunks * size, *y.shape[2:])[: len(x)]


def fresh_head(key: Array, width: int, ways: int, dtype: Any) -> dict[str, Array]:
    """A linear head {kernel [width, ways], bias [ways]} as conv4 starts it."""
    return {"kernel": 0.01 * jax.random.normal(key, (width, ways), dtype), "bias": jnp.zeros(ways, dtype)}


def fresh_conv(key: Array, size: int, channels: int, out: int, dtype: Any) -> dict[str, Array]:
    """A convolution {kernel [size, size, channels, out], scale [out], shift [out]}, by He's rule.

    Reference: He et al. 2015, arXiv 1502.01852.
    """
    gain = (2.0 / (size * size * channels)) ** 0.5
    kernel = gain * jax.random.normal(key, (size, size, channels, out), dtype)
    return {"kernel": kernel, "scale": jnp.ones(out, dtype), "shift": jnp.zeros(out, dtype)}


def affine(layer: PyTree, y: Array) -> Array:
    """A frozen batch normalisation, its moments folded: y scale + shift, [..., c]."""
    return y * layer["scale"].astype(y.dtype) + layer["shift"].astype(y.dtype)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels added before and after an axis as TensorFlow's SAME does: the odd one comes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve_padded(x: Array, kernel: Array, stride: int, padding: Sequence[tuple[int, int]]) -> Array:
    """`lax.conv` of x [n, h, w, in] with kernel [k, k, in, out], the fastest form where all images share weights."""
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=dims)


def depthwise(x: Array, kernel: Array, stride: int, padding: Sequence[tuple[int, int]]) -> Array:
    """A convolution of each channel by itself, as size^2 shifted multiply-adds.

    y[i, j, c] = sum_{a, b} x[s i + a - p, s j + b - p, c] kernel[a, b, 0, c]

    Args:
        x: [n, h, w, c] float.
        kernel: [k, k, 1, c].
        stride: step between outputs, in pixels.
        padding: zeros before and after, of rows and of columns.

    Returns:
        [n, h', w', c].
    """
    k = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = ((size - k) // stride + 1 for size in x.shape[1:3])
    x = jax.lax.optimization_barrier(x)  # else the padding is computed again for each of the taps
    taps = [
        x[:, a : a + stride * (height - 1) + 1 : stride, b : b + stride * (width - 1) + 1 : stride] * kernel[a, b, 0]
        for a in range(k)
        for b in range(k)
    ]
    return functools.reduce(jnp.add, taps)
