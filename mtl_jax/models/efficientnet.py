"""efficientnet: EfficientNet-Lite, the small backbone that is fast on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.models.backbone import (
    affine,
    backbone,
    convolve_padded,
    depthwise,
    first_block,
    fresh_conv,
    of_images,
    over_maps,
    same_padding,
    through_blocks,
)
from mtl_jax.types import Array, Model, PyTree

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
FEATURES, STEM = 1280, 32
PIXELS = 2 * 224 * 224  # of the images that a CPU takes at once
SCALES = {"lite0": (1.0, 1.0, 224), "lite1": (1.0, 1.1, 240), "lite2": (1.1, 1.2, 260)}  # width, depth, input size
STAGES = (  # repeats, kernel size, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Block(NamedTuple):
    """One inverted residual: its depthwise kernel's size and stride, the factor of expansion, channels in and out."""

    size: int
    stride: int
    expand: int
    channels: int
    out: int


def blocks(name: str) -> Iterator[Block]:
    """The blocks of lite0, lite1 or lite2, in order."""
    width, depth, _ = SCALES[name]
    channels = STEM
    for i, (repeats, size, stride, expand, out) in enumerate(STAGES):
        out = _eighths(out * width)
        if 0 < i < len(STAGES) - 1:  # Lite scales neither the first nor the last stage's depth
            repeats = int(-(-repeats * depth // 1))
        for k in range(repeats):
            yield Block(size, stride if k == 0 else 1, expand, channels, out)
            channels = out


def _eighths(channels: float) -> int:
    """The nearest multiple of 8, but not below nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def efficientnet(
    name: str = "lite0",
    ways: int | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    after: int | None = None,
) -> Model:
    """EfficientNet-Lite: inverted residuals with depthwise convolutions, ReLU6, a spatial mean, then a linear head.

    y = project(relu6(depthwise(relu6(expand(x))))), + x where shapes allow; each convolution is W * x scale + shift

    Args:
        name: "lite0", "lite1" or "lite2", made for images of 224, 240 and 260 pixels; any size from 32 on runs.
        ways: outputs of the linear head; None for the features alone.
        mean, std: of the three channels, for x in [0, 1].
        after: the network past this block alone, over the maps that `efficientnet_maps` gives; the whole unless given.

    Returns:
        Model for x [n, height, width, 3 or 1] in [0, 1], which it normalises itself; outputs [n, ways] or features
        [n, 1280]. Parameters are stem, block0.., last, each convolution {kernel, scale, shift} with the moments of its
        batch normalisation folded in, so that every image is independent ("norm frozen"); and, given `ways`, head.

    Raises:
        ValueError: an unknown name, ways below 1, a block that it does not have, or inputs that are no float images of
            at least 32x32 (no such maps).

    Reference: Tan and Le 2019, arXiv 1905.11946. Lite drops squeeze-excitation and has ReLU6 for swish: Liu 2020,
    Higher accuracy on vision models with EfficientNet-Lite, TensorFlow blog.

    Note: the authors' convolutions pad as TensorFlow's SAME does; so do these. There is no dropout before the head.
    """
    plan = _plan(name)
    layers, first = _layers(plan), first_block(after, len(plan))

    def body(key: Array, dtype: Any) -> dict[str, Any]:
        keys = iter(jax.random.split(key, 3 * len(plan) + 2))
        params: dict[str, Any] = {} if first else {"stem": fresh_conv(next(keys), 3, 3, STEM, dtype)}
        for i, block in list(enumerate(plan))[first:]:
            wide = block.channels * block.expand
            expand = {"expand": fresh_conv(next(keys), 1, block.channels, wide, dtype)} if block.expand > 1 else {}
            params[f"block{i}"] = {
                **expand,
                "depthwise": fresh_conv(next(keys), block.size, 1, wide, dtype),
                "project": fresh_conv(next(keys), 1, wide, block.out, dtype),
            }
        return {**params, "last": fresh_conv(next(keys), 1, plan[-1].out, FEATURES, dtype)}

    def features(params: PyTree, x: Array) -> Array:
        x = through_blocks(layers[first:], params, x, first)
        return _relu6(affine(params["last"], _mix(x, params["last"]["kernel"]))).mean((1, 2))

    if first:
        return over_maps(body, features, FEATURES, ways, plan[first].channels)
    return backbone(
        body, lambda params, x: features(params, _stem(params, x)), FEATURES, ways, mean, std, PIXELS, _check
    )


def efficientnet_maps(
    name: str, after: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> Callable[[PyTree, Array], Array]:
    """What EfficientNet-Lite has after one of its blocks, for the network past it: efficientnet(name, after=after).

    efficientnet(name)(x) = efficientnet(name, after=after)(efficientnet_maps(name, after)(x))

    Args:
        name, mean, std: as in `efficientnet`.
        after: the block, from 0.

    Returns:
        (params with stem and block0 to that one, x [n, height, width, 3 or 1] in [0, 1]) -> maps [n, h, w, c].

    Raises:
        ValueError: an unknown name, a block that it does not have, or other inputs.
    """
    layers = _layers(_plan(name))
    below = layers[: first_block(after, len(layers))]
    return of_images(lambda params, x: through_blocks(below, params, _stem(params, x)), mean, std, PIXELS, _check)


def _plan(name: str) -> tuple[Block, ...]:
    if name not in SCALES:
        raise ValueError(f"unknown EfficientNet {name!r}: choose one of {', '.join(SCALES)}")
    return tuple(blocks(name))


def _layers(plan: Sequence[Block]) -> list[Callable[[PyTree, Array], Array]]:
    return [partial(_apply_block, block) for block in plan]


def _stem(params: PyTree, x: Array) -> Array:
    stem = params["stem"]
    return _relu6(affine(stem, convolve_padded(x, stem["kernel"], 2, _same(x, 3, 2))))


def _apply_block(block: Block, layers: PyTree, x: Array) -> Array:
    y = x
    if block.expand > 1:
        y = _relu6(affine(layers["expand"], _mix(y, layers["expand"]["kernel"])))
    deep = layers["depthwise"]
    y = depthwise(y, deep["kernel"], block.stride, _same(y, block.size, block.stride))
    y = affine(layers["project"], _mix(_relu6(affine(deep, y)), layers["project"]["kernel"]))
    return x + y if block.stride == 1 and block.channels == block.out else y


def _check(x: Array) -> None:
    if min(x.shape[1:3]) < 32:
        raise ValueError(f"an EfficientNet halves images five times: they must be at least 32x32, not {x.shape}")


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, 6.0)


def _mix(x: Array, kernel: Array) -> Array:
    """A 1x1 convolution as one matrix product: kernel [1, 1, in, out]."""
    return x @ kernel[0, 0]


def _same(x: Array, size: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return same_padding(x.shape[1], size, stride), same_padding(x.shape[2], size, stride)
