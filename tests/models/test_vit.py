"""The vision transformer against flax's layers, and its positions at other sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.backbone import IMAGENET
from mtl_jax.models.vit import SIZES, resize_positions


def reference(params, x, heads):
    """With flax's own attention, normalisation and convolution."""
    mean, std = (jnp.asarray(v, x.dtype) for v in IMAGENET)
    d = params["token"].shape[0]
    dtype = {"dtype": x.dtype, "param_dtype": x.dtype}

    def norm(layer, z):
        module = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, **dtype)
        return module.apply({"params": {"scale": layer["scale"], "bias": layer["shift"]}}, z)

    z = nn.Conv(d, (16, 16), (16, 16), "VALID", **dtype).apply({"params": params["patch"]}, (x - mean) / std)
    z = z.reshape(len(x), -1, d)
    z = jnp.concatenate((jnp.broadcast_to(params["token"], (len(x), 1, d)), z), 1) + params["positions"]
    for i in range(sum(name.startswith("block") for name in params)):
        p = params[f"block{i}"]
        kernels, biases = (jnp.split(p["qkv"][k], 3, -1) for k in ("kernel", "bias"))
        parts = {
            name: {"kernel": k.reshape(d, heads, -1), "bias": b.reshape(heads, -1)}
            for name, k, b in zip(("query", "key", "value"), kernels, biases, strict=True)
        }
        out = {"kernel": p["project"]["kernel"].reshape(heads, -1, d), "bias": p["project"]["bias"]}
        attention = nn.MultiHeadAttention(heads, **dtype)
        z = z + attention.apply({"params": {**parts, "out": out}}, norm(p["norm0"], z))
        y = nn.gelu(norm(p["norm1"], z) @ p["up"]["kernel"] + p["up"]["bias"], approximate=False)
        z = z + y @ p["down"]["kernel"] + p["down"]["bias"]
    return norm(params["norm"], z)[:, 0] @ params["head"]["kernel"] + params["head"]["bias"]


def test_it_is_the_network_of_the_paper(key, monkeypatch):
    monkeypatch.setitem(SIZES, "s", (24, 3, 6))
    x, rng = jax.random.uniform(key, (2, 32, 32, 3)), np.random.default_rng(0)
    net = models.vit("s", 3, grid=2)
    shapes = jax.eval_shape(net.init, key, x)
    params = jax.tree.map(lambda a: jnp.asarray(0.3 * rng.standard_normal(a.shape), a.dtype), shapes)
    got, stats = net.apply(params, x)
    want = reference(params, x, 6)
    assert stats is None
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(("size", "millions", "features"), [("s", 21.666, 384), ("b", 85.799, 768)])
def test_it_is_as_large_as_timms(key, size, millions, features):
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    net = models.vit(size)
    params = jax.eval_shape(net.init, key, x)
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(count / 1e6, millions, atol=0.001)
    other = jax.ShapeDtypeStruct((2, 96, 128, 1), jnp.float32)  # interpolated positions, grey images
    assert jax.eval_shape(net.apply, params, other)[0].shape == (2, features)


def test_positions_of_another_size_are_interpolated_and_the_token_keeps_its_own(key):
    ramp = jnp.arange(14.0)[:, None] + jnp.zeros((14, 14))
    positions = jnp.concatenate((jnp.full(1, 7.0), ramp.ravel()))[:, None]
    assert resize_positions(positions, 14, 14) is positions
    small = resize_positions(positions, 7, 5)
    assert small.shape == (36, 1)
    assert small[0, 0] == 7
    rows = small[1:, 0].reshape(7, 5)
    np.testing.assert_allclose(rows - rows[:, :1], 0, atol=1e-5)
    np.testing.assert_allclose(rows[2:5, 0], [4.5, 6.5, 8.5], atol=1e-4)  # a ramp stays one, away from its ends
    with pytest.raises(ValueError, match="square of patches, not of 4 tokens"):
        resize_positions(positions[:4], 2, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.vit("l"), "unknown ViT size 'l'"),
        (lambda: models.vit("s", grid=0), "grid must be at least 1"),
        (lambda: models.vit("s").apply({}, jnp.zeros((1, 100, 96, 3))), "whole patches of 16"),
    ],
)
def test_bad_settings_and_inputs(make, words):
    with pytest.raises(ValueError, match=words):
        make()
