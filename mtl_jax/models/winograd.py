"""Winograd's convolution, F(2x2, 3x3): 16 products in place of 36, in forms whose derivatives are as cheap."""

import jax
import jax.numpy as jnp

from mtl_jax.types import Array

LEAST_CHANNELS, LEAST_PIXELS = 16, 500  # below these the transforms cost more than the products that they save


def winograd_pays(x: Array, kernel: Array, stride: int) -> bool:
    """Whether this form is the faster one, for x [n, height, width, in] and kernel [k, k, in, out].

    Measured on one core, against patches, forward / gradient / second order: 75 images of 14x14x64 with norm and pool
    24.5 / 68.8 / 133.9 ms to 11.7 / 38.8 / 83.3; 20 of 7x7x64 1.5 / 4.2 / 7.5 to 1.2 / 2.9 / 6.1; 80 of 16x16x32
    14.9 / 41.0 / 79.0 to 7.1 / 22.1 / 69.7. On two cores, a training step of one task: ProtoNet, 360 of 28x28x1 to 64
    channels, 270 and 278 to 218 and 170; 120 of 84x84x3, 911 and 906 to 624 and 568; 64 of 32x32x3, ResNet-12 of
    16-32-64-128, 101 and 108 to 80 and 87. An accelerator would rather have one large product than 16, and 16 bits are
    too few for the sums that the transforms take differences of. A number of images that is a symbol (jax.export) is of
    a program for every backend.
    """
    if not isinstance(x.shape[0], int):
        return False
    if (kernel.shape[0], stride) != (3, 1) or jax.default_backend() != "cpu" or x.dtype.itemsize < 4:
        return False
    return min(kernel.shape[2:]) >= LEAST_CHANNELS and x.shape[0] * x.shape[1] * x.shape[2] >= LEAST_PIXELS


def winograd(x: Array, kernel: Array) -> Array:
    """`layers.convolve` of a 3x3 kernel and stride 1; [n, height, width, out]."""
    (n, height, width, _), out = x.shape, kernel.shape[-1]
    rows = [jnp.stack(row, axis=3) for row in winograd_tiles(x, kernel)]  # each [n, i, j, 2, out]
    y = jnp.stack(rows, axis=2)
    return y.reshape(n, 2 * y.shape[1], 2 * y.shape[3], out)[:, :height, :width]


def winograd_tiles(x: Array, kernel: Array) -> list[list[Array]]:
    """The convolution in 2x2 tiles: y[r][s][:, i, j] is the output at (2 i + r, 2 j + s).

    Y = A^T [(G k G^T) * (B^T d B)] A, for tiles d of 4x4 inputs, two apart; * is the product over channels.

    Tiles are slices of pixels in pairs, and each of the 16 products is one of its own, so that every derivative is
    made of the same slices, sums and products: no strided access to scatter into, no array of all 16 to fill.

    Args:
        x: [n, height, width, in] float.
        kernel: [3, 3, in, out].

    Returns:
        2 x 2 arrays [n, ceil(height / 2), ceil(width / 2), out]; of an odd height or width, the last row or column of
        outputs is of zeros beyond the image.

    Reference: Lavin and Gray 2016, arXiv 1509.09308.
    """
    n, height, width, channels = x.shape
    tall, wide = -(-height // 2), -(-width // 2)
    x = jnp.pad(x, ((0, 0), (1, 2 * tall - height + 1), (1, 2 * wide - width + 1), (0, 0)))
    tiles = [_inputs(row, 2) for row in _inputs(x, 1)]
    columns = [_weights([kernel[a, b] for a in range(3)]) for b in range(3)]
    weights = [_weights([column[i] for column in columns]) for i in range(4)]
    products = [[tiles[i][j].reshape(-1, channels) @ weights[i][j] for j in range(4)] for i in range(4)]
    halves = [_outputs([products[i][j] for i in range(4)]) for j in range(4)]
    shape = (n, tall, wide, kernel.shape[-1])
    return [[y.reshape(shape) for y in _outputs([half[r] for half in halves])] for r in range(2)]


def _inputs(x: Array, axis: int) -> list[Array]:
    """B^T d along an axis of 2 t + 2 pixels: four arrays of t."""
    t = x.shape[axis] // 2 - 1
    pairs = x.reshape(*x.shape[:axis], t + 1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    d0, d1, d2, d3 = (jax.lax.slice_in_dim(p, i, i + t, axis=axis) for i in (0, 1) for p in (even, odd))
    return [d0 - d2, d1 + d2, d2 - d1, d1 - d3]


def _weights(k: list[Array]) -> list[Array]:
    """G k along one axis: four of three."""
    half = (k[0] + k[2]) * 0.5
    return [k[0], half + 0.5 * k[1], half - 0.5 * k[1], k[2]]


def _outputs(m: list[Array]) -> list[Array]:
    """A^T m along one axis: two of four."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
