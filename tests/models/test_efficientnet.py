"""EfficientNet-Lite against the same network by JAX's own convolutions, and against PyTorch's figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.backbone import depthwise, in_chunks, same_padding
from mtl_jax.models.efficientnet import MEAN, STD, blocks


def conv(layer, x, stride=1, groups=1):
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=dims, feature_group_count=groups
    )
    return y * layer["scale"] + layer["shift"]


def reference(params, x, name):
    relu6 = lambda v: jnp.clip(v, 0, 6)  # noqa: E731
    x = relu6(conv(params["stem"], (x - MEAN[0]) / STD[0], 2))
    for i, block in enumerate(blocks(name)):
        layers, y = params[f"block{i}"], x
        if "expand" in layers:
            y = relu6(conv(layers["expand"], y))
        y = relu6(conv(layers["depthwise"], y, block.stride, y.shape[-1]))
        y = conv(layers["project"], y)
        x = x + y if x.shape == y.shape else y
    return relu6(conv(params["last"], x)).mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def test_it_is_the_network_of_the_paper(key):
    x, rng = jax.random.uniform(key, (2, 33, 40, 3)), np.random.default_rng(0)
    net = models.efficientnet("lite0", 3)
    shapes = jax.eval_shape(net.init, key, x)
    scale = lambda a: np.sqrt(2 / np.prod(a.shape[:-1])) if a.ndim == 4 else 0.5  # noqa: E731
    params = jax.tree.map(lambda a: jnp.asarray(scale(a) * rng.standard_normal(a.shape), a.dtype), shapes)
    got, stats = net.apply(params, x)
    want = reference(params, x, "lite0")
    assert stats is None
    np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(
    ("name", "millions", "count"), [("lite0", 3.385, 16), ("lite1", 4.135, 21), ("lite2", 4.807, 21)]
)
def test_it_is_as_large_as_its_authors_say(key, name, millions, count):
    # without the head of 1.281 million: 4.7, 5.4 and 6.1 million in all, as the authors' table has them
    params = jax.eval_shape(models.efficientnet(name).init, key, jnp.zeros((1, 32, 32, 3)))
    assert sum(name.startswith("block") for name in params) == count
    size = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(size / 1e6, millions, atol=0.02)


@pytest.mark.parametrize(("size", "stride", "shape"), [(3, 1, (7, 6)), (3, 2, (7, 6)), (5, 2, (8, 9)), (5, 1, (4, 3))])
def test_depthwise_equals_lax_conv(key, size, stride, shape):
    x, kernel = jax.random.normal(key, (2, *shape, 4)), jax.random.normal(key, (size, size, 1, 4))
    dims = ("NHWC", "HWIO", "NHWC")
    want = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=dims, feature_group_count=4
    )
    padding = [same_padding(side, size, stride) for side in shape]
    np.testing.assert_allclose(depthwise(x, kernel, stride, padding), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 4, 5, 7])
def test_chunks_change_nothing_but_the_order_of_work(key, n):
    x = jax.random.uniform(key, (n, 4, 4, 3))
    forward = lambda v: jnp.sin(v).sum((1, 2))  # noqa: E731
    got = in_chunks(forward, x, 2 * 16)
    np.testing.assert_allclose(got, forward(x), rtol=1e-6)
    slope, want = (
        jax.grad(lambda x, f=f: jnp.square(f(x)).sum())(x) for f in (lambda v: in_chunks(forward, v, 32), forward)
    )
    np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-6)


def test_every_image_is_independent_and_grey_is_three_equal_channels(key):
    net = models.efficientnet("lite0")
    x = jax.random.uniform(key, (3, 32, 32, 1))
    params = net.init(key, x)
    apply = jax.jit(net.apply)
    every = apply(params, x)[0]
    assert every.shape == (3, 1280)
    np.testing.assert_allclose(apply(params, x[1:2])[0], every[1:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(params, jnp.tile(x, 3))[0], every, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.efficientnet("lite9"), "unknown EfficientNet 'lite9'"),
        (lambda: models.efficientnet("lite0", 0), "ways must be at least 1"),
        (lambda: models.efficientnet(std=(1, 1)), "three numbers each"),
        (lambda: models.efficientnet().apply({}, jnp.zeros((1, 31, 32, 3))), r"at least 32x32"),
        (lambda: models.efficientnet().apply({}, jnp.zeros((1, 32, 32, 3), jnp.uint8)), r"float images.*uint8"),
        (lambda: models.efficientnet().apply({}, jnp.zeros((1, 32, 32, 4))), r"3 or 1"),
    ],
)
def test_bad_settings_and_inputs(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("after", [0, 10, 14])
def test_what_comes_past_a_block_over_its_maps_is_the_whole(key, after):
    x = jax.random.uniform(key, (2, 36, 32, 3))
    whole, upper = models.efficientnet("lite0", 3), models.efficientnet("lite0", 3, after=after)
    params = whole.init(key, x)
    maps = models.efficientnet_maps("lite0", after)(params, x)
    np.testing.assert_allclose(upper.apply(params, maps)[0], whole.apply(params, x)[0], rtol=1e-4, atol=1e-5)
    blocks = {f"block{i}" for i in range(after + 1, 16)}
    assert set(jax.eval_shape(upper.init, key, maps)) == {*blocks, "last", "head"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.efficientnet(after=15), "after is a block from 0 to 14, .* last of 16, not 15"),
        (lambda: models.efficientnet_maps("lite0", -1), "after is a block"),
        (lambda: models.efficientnet_maps("lite9", 1), "unknown EfficientNet 'lite9'"),
        (lambda: models.efficientnet_maps("lite0", 1)({}, jnp.zeros((1, 8, 8, 3))), "at least 32x32"),
        (lambda: models.efficientnet(after=10).apply({}, jnp.zeros((1, 8, 8, 80))), r"wants maps \[n, h, w, 112\]"),
    ],
)
def test_blocks_and_maps_that_do_not_fit(make, words):
    with pytest.raises(ValueError, match=words):
        make()
