"""ResNet-18 and -50 against the same networks by JAX's own convolutions and pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.backbone import IMAGENET
from mtl_jax.models.resnet import blocks


def conv(layer, x, stride=1):
    p = (len(layer["kernel"]) - 1) // 2
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), ((p, p), (p, p)), dimension_numbers=dims)
    return y * layer["scale"] + layer["shift"]


def reference(params, x, depth):
    mean, std = (jnp.asarray(v, x.dtype) for v in IMAGENET)
    x = jax.nn.relu(conv(params["stem"], (x - mean) / std, 2))
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    for i, block in enumerate(blocks(depth)):
        layers, y = params[f"block{i}"], x
        for k, stride in enumerate(block.strides):
            y = conv(layers[f"conv{k}"], y, stride)
            y = jax.nn.relu(y) if k + 1 < len(block.strides) else y
        x = jax.nn.relu(y + (conv(layers["skip"], x, max(block.strides)) if "skip" in layers else x))
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


# the second's maps are of 32, 16, 8 and 4 pixels: two of them take Winograd's form
@pytest.mark.parametrize(("depth", "shape"), [(18, (2, 33, 40)), (18, (4, 128, 128)), (50, (2, 32, 32))])
def test_it_is_the_network_of_the_paper(key, depth, shape):
    x, rng = jax.random.uniform(key, (*shape, 3)), np.random.default_rng(0)
    net = models.resnet(depth, 3)
    shapes = jax.eval_shape(net.init, key, x)
    scale = lambda a: np.sqrt(2 / np.prod(a.shape[:-1])) if a.ndim == 4 else 0.5  # noqa: E731
    params = jax.tree.map(lambda a: jnp.asarray(scale(a) * rng.standard_normal(a.shape), a.dtype), shapes)
    got, stats = net.apply(params, x)
    want = reference(params, x, depth)
    assert stats is None
    np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(("depth", "millions", "features"), [(18, 11.177, 512), (50, 23.508, 2048)])
def test_it_is_as_large_as_torchvisions(key, depth, millions, features):
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    net = models.resnet(depth)
    params = jax.eval_shape(net.init, key, x)
    size = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(size / 1e6, millions, atol=0.001)
    assert jax.eval_shape(net.apply, params, x)[0].shape == (2, features)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.resnet(34), "unknown ResNet depth 34"),
        (lambda: models.resnet(18).apply({}, jnp.zeros((1, 32, 16, 3))), "at least 32x32"),
        (lambda: models.resnet(18, after=7), "after is a block from 0 to 6"),
        (lambda: models.resnet_maps(34, 0), "unknown ResNet depth 34"),
    ],
)
def test_bad_settings_and_inputs(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(("depth", "after"), [(18, 5), (50, 14)])
def test_what_comes_past_a_block_over_its_maps_is_the_whole(key, depth, after):
    x = jax.random.uniform(key, (2, 36, 32, 3))
    whole, upper = models.resnet(depth, 3), models.resnet(depth, 3, after=after)
    params = whole.init(key, x)
    maps = models.resnet_maps(depth, after)(params, x)
    want = whole.apply(params, x)[0]
    np.testing.assert_allclose(upper.apply(params, maps)[0], want, atol=1e-5 * float(jnp.abs(want).max()))
    blocks = {f"block{i}" for i in range(after + 1, {18: 8, 50: 16}[depth])}
    assert set(jax.eval_shape(upper.init, key, maps)) == {*blocks, "head"}
