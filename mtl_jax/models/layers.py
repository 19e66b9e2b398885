"""Layers whose first and second derivatives stay cheap, under shared and under per-task weights."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.types import Array

NORMS = ("transductive", "support", "none")
Moments = tuple[Array, Array]


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve with padding that keeps ceil(size / stride), as one matrix product over patches.

    y[i, j, o] = sum_{a, b, c} x[s i + a - p, s j + b - p, c] kernel[a, b, c, o], p = (k - 1) // 2

    A task's own weights turn a vmapped `lax.conv` into a grouped convolution, slow on CPU and in its backward
    pass on GPU; the patches form becomes a batched matrix product instead, also in every derivative.

    Args:
        x: [n, height, width, in] float.
        kernel: [k, k, in, out] float, k odd.
        stride: step between outputs, in pixels.

    Returns:
        [n, ceil(height / stride), ceil(width / stride), out], of x's dtype.
    """
    k, _, _, out = kernel.shape
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    p = (k - 1) // 2
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    patches = [
        x[:, a : a + stride * (height - 1) + 1 : stride, b : b + stride * (width - 1) + 1 : stride]
        for a in range(k)
        for b in range(k)
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, out)


def max_pool(x: Array) -> Array:
    """2x2 maximum with stride 2 of x [n, height, width, channels]; an odd last row or column is dropped."""
    n, h, w, c = x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    x = x[:, : 2 * h, : 2 * w].reshape(n, h, 2, 2 * w, c)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1]).reshape(n, h, w, 2, c)
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


class Conv(nn.Module):
    """A square convolution without bias (a normalisation's shift follows it)."""

    features: int
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_normal(), shape, x.dtype)
        return convolve(x, kernel, self.stride)


class Norm(nn.Module):
    """Batch normalisation without running averages: y = scale (x - mean) / sqrt(var + eps) + shift, a channel.

    The moments are those given, else those of this batch over all axes but the last. Under mode "none" only
    scale and shift are applied, so that the three modes share one tree of parameters.
    """

    mode: str
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, moments: Moments | None) -> tuple[Array, Moments | None]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], x.dtype)
        shift = self.param("shift", nn.initializers.zeros, x.shape[-1:], x.dtype)
        if self.mode == "none":
            return x * scale + shift, None
        if moments is None:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            moments = mean, jnp.maximum((x * x).mean(axes) - mean * mean, 0.0)
        mean, var = moments
        gain = scale * jax.lax.rsqrt(var + self.eps)
        return x * gain + (shift - mean * gain), moments if self.mode == "support" else None


def check_norm(norm: str) -> None:
    """Raise ValueError unless `norm` is a mode of normalisation."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def initialiser(module: nn.Module) -> Callable:
    """`Model.init` of a linen module: (key, x) -> params, without flax's outer "params" key."""

    def init(key: Array, x: Array) -> dict:
        return module.init(key, x)["params"]

    return init
