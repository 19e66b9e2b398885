"""Layers whose first and second derivatives stay cheap, under shared and under per-task weights."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.winograd import winograd, winograd_pays, winograd_tiles
from mtl_jax.types import Array

NormMode = Literal["transductive", "support", "none"]
Moments = tuple[Array, Array]


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve with padding that keeps ceil(size / stride), as matrix products: of patches, or Winograd's where faster.

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
    if winograd_pays(x, kernel, stride):
        return winograd(x, kernel)
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


def few_channels(x: Array, kernel: Array, pool: bool) -> bool:
    """Whether `convolve_normalised` is cheaper: patches smaller than outputs, and nothing that a pool would drop."""
    k, _, channels, out = kernel.shape
    return k * k * channels <= out and not (pool and (x.shape[1] % 2 or x.shape[2] % 2))


def convolve_normalised(
    x: Array,
    kernel: Array,
    scale: Array,
    shift: Array,
    moments: Moments | None,
    mode: str,
    stride: int = 1,
    pool: bool = False,
    eps: float = 1e-5,
) -> tuple[Array, Moments | None]:
    """Convolution, normalisation and 2x2 max-pool where channels are few: moments without a pass over the outputs.

    mean = m W, var = diag(W^T C W) with m, C the mean and covariance of the patches; y = P (W gain) + shift - mean gain

    The outputs of a first block are many times its inputs. Their moments follow from those of the patches, a matrix of
    9 x 9 for one channel, so that neither they nor their derivatives pass over the outputs again; the gain goes into
    the kernel; and the four outputs that a maximum is taken of are four products. Measured on two cores, 75 images of
    28x28x1 to 64 channels: gradient 60 -> 10 ms, second order 240 -> 30 ms; forward alone is as before.

    Args:
        x: [n, height, width, in], of even height and width if pooled.
        kernel: [k, k, in, out], k odd.
        scale, shift: [out].
        moments: (mean, var) [out] to use, or None for this batch's own.
        mode: a mode of `Norm`.
        stride: 1 or 2; 1 if pooled.
        pool: take the maximum of each 2x2 outputs.
        eps: as in `Norm`.

    Returns:
        ([n, h, w, out], moments as `Norm` gives them).
    """
    k, out = kernel.shape[0], kernel.shape[-1]
    step = 2 if pool else stride
    h, w = x.shape[1] // 2 if pool else -(-x.shape[1] // stride), x.shape[2] // 2 if pool else -(-x.shape[2] // stride)
    p = (k - 1) // 2
    padded = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)] if pool else [(0, 0)]
    parts = []  # of each corner of the pool's windows, the patches [n, h * w, k * k * in]
    for i, j in corners:
        taps = [
            padded[:, a + i : a + i + step * (h - 1) + 1 : step, b + j : b + j + step * (w - 1) + 1 : step]
            for a in range(k)
            for b in range(k)
        ]
        parts.append(jnp.concatenate(taps, axis=-1).reshape(x.shape[0], h * w, -1))
    weight = kernel.reshape(-1, out).astype(scale.dtype)
    if mode == "none":
        gain, offset, moments = scale, shift, None
    else:
        if moments is None:
            wide = [part.astype(scale.dtype) for part in parts]
            centre = jnp.stack([part.mean((0, 1)) for part in wide]).mean(0)
            # image by image: one long thin product would leave a core idle, and so would its derivatives
            each = [jnp.einsum("npk,npl->nkl", part - centre, part - centre).mean(0) for part in wide]
            spread = jnp.stack(each).mean(0) / (h * w)
            moments = centre @ weight, jnp.maximum((weight * (spread @ weight)).sum(0), 0.0)
        gain = scale * jax.lax.rsqrt(moments[1] + eps)
        offset = shift - moments[0] * gain
    tiled = jnp.broadcast_to((weight * gain).astype(x.dtype), (x.shape[0], *weight.shape))
    y = [part @ tiled for part in parts]
    top = jnp.maximum(jnp.maximum(y[0], y[1]), jnp.maximum(y[2], y[3])) if pool else y[0]
    top = (top.astype(scale.dtype) + offset).astype(x.dtype)  # 16 bits are too few to take the mean off
    return top.reshape(x.shape[0], h, w, out), moments if mode == "support" else None


def near_mean(x: Array) -> Array:
    """Roughly the mean of each channel of x [..., channels], from its first image alone: [channels].

    Taken off first, it makes one pass enough for both moments: the mean of squares and the square of the mean are
    then of the variance's own size, where at mean / std of 1,000 their difference would have no correct digit. Which
    value is taken off changes no moment, so that it counts as a constant and derivatives of every order stay exact.
    """
    first = x[(0,) * max(x.ndim - 3, 1)]
    return first.mean(tuple(range(first.ndim - 1)))


def moments_of(x: Array) -> Moments:
    """Mean and variance of each channel of x [..., channels], in one pass: of values with `near_mean` taken off."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.maximum((x * x).mean(axes) - mean * mean, 0.0)


class Conv(nn.Module):
    """A square convolution without bias (a normalisation's shift follows it)."""

    features: int
    size: int = 3
    stride: int = 1

    def __call__(self, x: Array) -> Array:
        return convolve(x, self.kernel(x), self.stride)

    @nn.compact
    def kernel(self, x: Array) -> Array:
        """The weights [size, size, in, features] alone."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        return self.param("kernel", nn.initializers.glorot_normal(), shape, x.dtype)


class Norm(nn.Module):
    """Batch normalisation without running averages: y = scale (x - mean) / sqrt(var + eps) + shift, per channel.

    The moments are those given, else those of this batch over all axes but the last. Under mode "none" only
    scale and shift are applied, so that the three modes share one tree of parameters. Moments and arithmetic are of
    the parameters' dtype, which may be wider than x's.
    """

    mode: str
    eps: float = 1e-5

    def __call__(self, x: Array, moments: Moments | None) -> tuple[Array, Moments | None]:
        scale, shift = self.affine(x.shape[-1], x.dtype)
        wide = x.astype(scale.dtype)
        if self.mode == "none":
            return (wide * scale + shift).astype(x.dtype), None
        near = jax.lax.stop_gradient(near_mean(wide) if moments is None else moments[0])
        wide = wide - near
        if moments is None:
            mean, var = moments_of(wide)
            moments = near + mean, var
        else:
            mean, var = moments[0] - near, moments[1]  # zeros, but for their derivative
        gain = scale * jax.lax.rsqrt(var + self.eps)
        y = wide * gain + (shift - mean * gain)
        return y.astype(x.dtype), moments if self.mode == "support" else None

    @nn.compact
    def affine(self, channels: int, dtype: Any) -> tuple[Array, Array]:
        """Scale and shift [channels] alone."""
        scale = self.param("scale", nn.initializers.ones, (channels,), dtype)
        return scale, self.param("shift", nn.initializers.zeros, (channels,), dtype)


def convolve_block(x: Array, conv: Conv, norm: Norm, moments: Moments | None, pool: bool) -> tuple[Array, Any]:
    """A convolution, its normalisation and, if asked for, a max-pool, in the form that is cheapest for the shapes."""
    kernel = conv.kernel(x)
    if few_channels(x, kernel, pool):
        scale, shift = norm.affine(kernel.shape[-1], x.dtype)
        return convolve_normalised(x, kernel, scale, shift, moments, norm.mode, conv.stride, pool, norm.eps)
    if pool and x.shape[1] % 2 == x.shape[2] % 2 == 0 and winograd_pays(x, kernel, conv.stride):
        # its tiles are the pool's windows
        y, moments = norm(jnp.stack([part for row in winograd_tiles(x, kernel) for part in row]), moments)
        return jnp.maximum(jnp.maximum(y[0], y[1]), jnp.maximum(y[2], y[3])), moments
    y, moments = norm(convolve(x, kernel, conv.stride), moments)
    return max_pool(y) if pool else y, moments


def check_floats(x: Array) -> None:
    """ValueError unless x is of floats, as the images of `sample_episode` are."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"a network wants floats, not {x.dtype} {x.shape}: convert x, images to [0, 1]")


def initialiser(module: nn.Module, check: Callable[[Any], None] = check_floats) -> Callable:
    """`Model.init` of a linen module: (key, x) -> params, without flax's outer "params" key; `check` refuses x."""

    def init(key: Array, x: Array) -> dict:
        check(x)
        return module.init(key, x).get("params", {})  # none, of a linear network without its head

    return broadcasting(init)
