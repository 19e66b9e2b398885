"""resnet: the residual networks of ImageNet, in torchvision's layout."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.models.backbone import (
    IMAGENET,
    affine,
    backbone,
    convolve_padded,
    first_block,
    fresh_conv,
    of_images,
    over_maps,
    through_blocks,
)
from mtl_jax.models.winograd import winograd, winograd_pays
from mtl_jax.types import Array, Model, PyTree

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
PIXELS = 8 * 224 * 224  # of the images that a CPU takes at once


class Block(NamedTuple):
    """One residual block: the sizes and strides of its convolutions, and channels in, between and out."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]

    @property
    def skips(self) -> bool:
        """Whether a 1x1 convolution makes the input fit the output."""
        return self.strides != (1,) * len(self.strides) or self.channels[0] != self.channels[-1]


def blocks(depth: int) -> Iterator[Block]:
    """The blocks of ResNet-18 (two 3x3 convolutions each) or ResNet-50 (1x1, 3x3, 1x1), in order."""
    channels = 64
    for stage, (repeats, width) in enumerate(zip(DEPTHS[depth], WIDTHS, strict=True)):
        for k in range(repeats):
            stride = 2 if stage > 0 and k == 0 else 1
            if depth == 18:
                yield Block((3, 3), (stride, 1), (channels, width, width))
            else:
                yield Block((1, 3, 1), (1, stride, 1), (channels, width, width, 4 * width))
            channels = width if depth == 18 else 4 * width


def resnet(
    depth: int = 18,
    ways: int | None = None,
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
    after: int | None = None,
) -> Model:
    """ResNet-18 or ResNet-50: a 7x7 convolution, a pool, four stages of residual blocks, a spatial mean, a linear head.

    y = relu(f(x) + skip(x)), f being convolutions W * x scale + shift with ReLUs between them

    Args:
        depth: 18 or 50.
        ways: outputs of the linear head; None for the features alone.
        mean, std: of the three channels, for x in [0, 1].
        after: the network past this block alone, over the maps that `resnet_maps` gives; the whole unless given.

    Returns:
        Model for x [n, height, width, 3 or 1] in [0, 1], made for 224 pixels; outputs [n, ways], or features [n, 512]
        of ResNet-18 and [n, 2048] of ResNet-50. Parameters are stem, block0.., each convolution {kernel, scale, shift}
        with the moments of its batch normalisation folded in, so that every image is independent ("norm frozen");
        and, given `ways`, head.

    Raises:
        ValueError: an unknown depth, ways below 1, a block that it does not have, or inputs that are no float images of
            at least 32x32 (no such maps).

    Reference: He et al. 2015, arXiv 1512.03385.

    Note: as in torchvision, ResNet-50's stride is in its 3x3 convolutions; the paper has it in the first 1x1.
    """
    plan = _plan(depth)
    layers, first = _layers(plan), first_block(after, len(plan))
    width = plan[-1].channels[-1]

    def body(key: Array, dtype: Any) -> dict[str, Any]:
        keys = iter(jax.random.split(key, 4 * len(plan) + 1))
        params: dict[str, Any] = {} if first else {"stem": fresh_conv(next(keys), 7, 3, 64, dtype)}
        for i, block in list(enumerate(plan))[first:]:
            ends = zip(block.sizes, block.channels[:-1], block.channels[1:], strict=True)
            layers = {f"conv{k}": fresh_conv(next(keys), *end, dtype) for k, end in enumerate(ends)}
            if block.skips:
                layers["skip"] = fresh_conv(next(keys), 1, block.channels[0], block.channels[-1], dtype)
            params[f"block{i}"] = layers
        return params

    def features(params: PyTree, x: Array) -> Array:
        x = through_blocks(layers[first:], params, x, first)
        return x.mean((1, 2))

    if first:
        return over_maps(body, features, width, ways, plan[first].channels[0])
    return backbone(body, lambda params, x: features(params, _stem(params, x)), width, ways, mean, std, PIXELS, _check)


def resnet_maps(
    depth: int, after: int, mean: Sequence[float] = IMAGENET[0], std: Sequence[float] = IMAGENET[1]
) -> Callable[[PyTree, Array], Array]:
    """What ResNet has after one of its blocks, for the network past it: resnet(depth, after=after).

    resnet(depth)(x) = resnet(depth, after=after)(resnet_maps(depth, after)(x))

    Args:
        depth, mean, std: as in `resnet`.
        after: the block, from 0.

    Returns:
        (params with stem and block0 to that one, x [n, height, width, 3 or 1] in [0, 1]) -> maps [n, h, w, c].

    Raises:
        ValueError: an unknown depth, a block that it does not have, or other inputs.
    """
    layers = _layers(_plan(depth))
    below = layers[: first_block(after, len(layers))]
    return of_images(lambda params, x: through_blocks(below, params, _stem(params, x)), mean, std, PIXELS, _check)


def _plan(depth: int) -> tuple[Block, ...]:
    if depth not in DEPTHS:
        raise ValueError(f"unknown ResNet depth {depth}: choose 18 or 50")
    return tuple(blocks(depth))


def _layers(plan: Sequence[Block]) -> list[Callable[[PyTree, Array], Array]]:
    return [partial(_apply_block, block) for block in plan]


def _stem(params: PyTree, x: Array) -> Array:
    return _pool(jax.nn.relu(_convolve(params["stem"], x, 2)))


def _apply_block(block: Block, layers: PyTree, x: Array) -> Array:
    y = x
    for k, stride in enumerate(block.strides):
        y = _convolve(layers[f"conv{k}"], y if k == 0 else jax.nn.relu(y), stride)
    skip = _convolve(layers["skip"], x, max(block.strides)) if block.skips else x
    return jax.nn.relu(y + skip)


def _check(x: Array) -> None:
    if min(x.shape[1:3]) < 32:
        raise ValueError(f"a ResNet halves images five times: they must be at least 32x32, not {x.shape}")


def _convolve(layer: PyTree, x: Array, stride: int) -> Array:
    """A convolution and its frozen normalisation."""
    kernel = layer["kernel"]
    p = (kernel.shape[0] - 1) // 2
    n, height, width, _ = x.shape
    if kernel.shape[0] == 1:
        y = x[:, ::stride, ::stride] @ kernel[0, 0]
    elif winograd_pays(x, kernel, stride) and max(height, width) <= 28 and n > 1:
        y = winograd(x, kernel)  # larger maps are faster by XLA's own form: 56 against 57 images per second, of 48
    else:
        y = convolve_padded(x, kernel, stride, ((p, p), (p, p)))
    return affine(layer, y)


def _pool(x: Array) -> Array:
    """3x3 maximum with stride 2; x is not below 0, so that zeros beyond the edge are never chosen."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((size - 3) // 2 + 1 for size in x.shape[1:3])
    for axis, count in ((1, height), (2, width)):
        parts = [jax.lax.slice_in_dim(x, a, a + 2 * count - 1, 2, axis) for a in range(3)]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x
