"""vit: vision transformers, in the layout of timm and DINO."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models.backbone import IMAGENET, backbone
from mtl_jax.types import Array, Model, PyTree

SIZES = {"s": (384, 12, 6), "b": (768, 12, 12)}  # width, blocks, attention heads
PATCH, GRID = 16, 14  # pixels of a patch's side, and patches of the side of an image of 224 pixels
EPS = 1e-6
PIXELS = 4 * 224 * 224  # of the images that a CPU takes at once


def vit(
    size: str = "s",
    ways: int | None = None,
    grid: int = GRID,
    mean: Sequence[float] = IMAGENET[0],
    std: Sequence[float] = IMAGENET[1],
) -> Model:
    """ViT-S/16 or ViT-B/16: patches of 16 pixels and a class token through 12 transformer blocks, then a linear head.

    z = [token, patches(x)] + positions;  z <- z + attention(norm(z)), z <- z + mlp(norm(z)), 12 times;
    features are the class token of norm(z)

    Args:
        size: "s" (384 wide, 6 heads) or "b" (768 wide, 12 heads).
        ways: outputs of the linear head; None for the features alone.
        grid: patches of a side that the positions are of: 14 for 224 pixels. Images of another size are given
            positions interpolated from these, by Keys' cubic with antialiasing.
        mean, std: of the three channels, for x in [0, 1]. DINO's and DeiT's weights are of ImageNet's, those of
            Google and timm's "augreg" of 0.5 and 0.5.

    Returns:
        Model for x [n, height, width, 3 or 1] in [0, 1], sides of whole patches; outputs [n, ways], or features [n, 384
        or 768]. Parameters are patch {kernel [16, 16, 3, d], bias}, token [d], positions [1 + grid^2, d], block0..11
        {norm0, qkv, project, norm1, up, down}, norm, with {scale, shift} of each normalisation and {kernel, bias} of
        each linear layer; and, given `ways`, head.

    Raises:
        ValueError: an unknown size, ways or grid below 1, or inputs that are no float images of whole patches.

    Reference: Dosovitskiy et al. 2020, arXiv 2010.11929; Caron et al. 2021, arXiv 2104.14294 (DINO).

    Note: interpolation is timm's; DINO's code takes another cubic, without antialiasing, for other sizes than 224.
    """
    if size not in SIZES:
        raise ValueError(f"unknown ViT size {size!r}: choose s or b")
    if grid < 1:
        raise ValueError(f"grid must be at least 1, not {grid}")
    width, depth, heads = SIZES[size]

    def body(key: Array, dtype: Any) -> dict[str, Any]:
        keys = iter(jax.random.split(key, 4 * depth + 3))

        def normal(*shape: int) -> Array:
            return 0.02 * jax.random.truncated_normal(next(keys), -2.0, 2.0, shape, dtype)

        def dense(*shape: int) -> dict[str, Array]:
            return {"kernel": normal(*shape), "bias": jnp.zeros(shape[-1], dtype)}

        def norm() -> dict[str, Array]:
            return {"scale": jnp.ones(width, dtype), "shift": jnp.zeros(width, dtype)}

        params: dict[str, Any] = {
            "patch": dense(PATCH, PATCH, 3, width),
            "token": normal(width),
            "positions": normal(1 + grid * grid, width),
        }
        for i in range(depth):
            params[f"block{i}"] = {
                "norm0": norm(),
                "qkv": dense(width, 3 * width),
                "project": dense(width, width),
                "norm1": norm(),
                "up": dense(width, 4 * width),
                "down": dense(4 * width, width),
            }
        return {**params, "norm": norm()}

    def features(params: PyTree, x: Array) -> Array:
        z = _embed(params, x)
        for i in range(depth):
            layers = params[f"block{i}"]
            z = z + _attend(layers, _normalise(layers["norm0"], z), heads)
            z = z + _dense(
                layers["down"], jax.nn.gelu(_dense(layers["up"], _normalise(layers["norm1"], z)), approximate=False)
            )
        return _normalise(params["norm"], z[:, 0])

    return backbone(body, features, width, ways, mean, std, PIXELS, _check)


def resize_positions(positions: Array, height: int, width: int) -> Array:
    """Positions [1 + g^2, d] of a class token and g x g patches, for height x width patches: [1 + height width, d].

    Raises:
        ValueError: the patches are no square.
    """
    grid = math.isqrt(len(positions) - 1)
    if grid * grid != len(positions) - 1:
        raise ValueError(f"positions are of a class token and a square of patches, not of {len(positions)} tokens")
    if (height, width) == (grid, grid):
        return positions
    square = positions[1:].reshape(grid, grid, -1)
    with jax.numpy_dtype_promotion("standard"):  # jax.image mixes its weights' dtype with the positions'
        resized = jax.image.resize(square, (height, width, square.shape[-1]), "cubic").astype(positions.dtype)
    return jnp.concatenate((positions[:1], resized.reshape(height * width, -1)))


def _check(x: Array) -> None:
    if min(x.shape[1:3]) < PATCH or x.shape[1] % PATCH or x.shape[2] % PATCH:
        raise ValueError(f"a ViT wants sides of whole patches of {PATCH} pixels, not {x.shape}: resize images to 224")


def _embed(params: PyTree, x: Array) -> Array:
    """Tokens [n, 1 + patches, d] of images, each patch a product of its own pixels."""
    n, height, width, _ = x.shape
    rows, columns = height // PATCH, width // PATCH
    patches = x.reshape(n, rows, PATCH, columns, PATCH, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, -1)
    kernel = params["patch"]["kernel"]
    z = patches @ kernel.reshape(-1, kernel.shape[-1]) + params["patch"]["bias"]
    token = jnp.broadcast_to(params["token"], (n, 1, z.shape[-1]))
    return jnp.concatenate((token, z), 1) + resize_positions(params["positions"], rows, columns)


def _normalise(layer: PyTree, z: Array) -> Array:
    """Layer normalisation, its moments in the parameters' dtype."""
    wide = z.astype(layer["scale"].dtype)
    centred = wide - wide.mean(-1, keepdims=True)
    wide = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS)
    return (wide * layer["scale"] + layer["shift"]).astype(z.dtype)


def _dense(layer: PyTree, z: Array) -> Array:
    return z @ layer["kernel"] + layer["bias"]


def _attend(layers: PyTree, z: Array, heads: int) -> Array:
    """Multi-head self-attention of z [n, t, d]."""
    n, t, d = z.shape
    q, k, v = jnp.moveaxis(_dense(layers["qkv"], z).reshape(n, t, 3, heads, d // heads), (2, 3), (0, 2))
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) * (d // heads) ** -0.5, -1)
    mixed = (weights @ v).swapaxes(1, 2).reshape(n, t, d)
    return _dense(layers["project"], mixed)
