"""resnet12 against the same network written with JAX's own convolution and pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models

WIDTHS = (9, 4, 4, 6)  # the first makes block0's convolution of one channel take its folded form, the others not


def conv(x, kernel):
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)


def normalised(x, norm, mode):
    if mode != "none":
        x = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)
    return x * norm["scale"] + norm["shift"]


def reference(params, x, mode):
    """The papers' block as they draw it: ReLU, then pool."""
    leaky = lambda v: jnp.where(v > 0, v, 0.1 * v)  # noqa: E731
    for b in range(4):
        p, y = params[f"block{b}"], x
        for i in range(3):
            y = normalised(conv(y, p[f"conv{i}"]["kernel"]), p[f"norm{i}"], mode)
            y = leaky(y) if i < 2 else y
        y = leaky(y + normalised(conv(x, p["skip"]["kernel"]), p["skip_norm"], mode))
        x = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def shaken(params):
    """Parameters away from their start, so that every scale, shift and bias counts."""
    return jax.tree.map(lambda a: a + 0.3 * jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), params)


@pytest.mark.parametrize(("mode", "channels"), [("transductive", 1), ("none", 3)])
def test_it_is_the_network_of_the_papers(key, mode, channels):
    with jax.enable_x64(True):
        x = jax.random.uniform(key, (2, 33, 34, channels), jnp.float64)  # 33 and then 17 are odd; 2x2 maps at the end
        net = models.resnet12(3, WIDTHS, mode)
        params = shaken(jax.jit(net.init)(key, x))

        @jax.jit
        def both(params):
            return net.apply(params, x), reference(params, x, mode)

        (got, stats), want = both(params)
        assert stats is None
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (16, 16, 1), (84, 84, 3)])
def test_parameters_and_outputs_have_the_shapes_promised(key, shape):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    net = models.resnet12(5)
    params = jax.eval_shape(net.init, key, x)
    assert set(params) == {"block0", "block1", "block2", "block3", "head"}
    layers = {*(f"{kind}{i}" for kind in ("conv", "norm") for i in range(3)), "skip", "skip_norm"}
    inputs = (shape[-1], 16, 32, 64)
    for b, (before, width) in enumerate(zip(inputs, (16, 32, 64, 128), strict=True)):
        block = params[f"block{b}"]
        assert set(block) == layers
        assert [block[f"conv{i}"]["kernel"].shape for i in (0, 1)] == [(3, 3, before, width), (3, 3, width, width)]
        assert block["skip"]["kernel"].shape == (1, 1, before, width)
        assert {k: v.shape for k, v in block["skip_norm"].items()} == {"scale": (width,), "shift": (width,)}
    assert {k: v.shape for k, v in params["head"].items()} == {"kernel": (128, 5), "bias": (5,)}
    body = {k: v for k, v in params.items() if k != "head"}
    assert jax.eval_shape(net.apply, params, x)[0].shape == (2, 5)
    assert jax.eval_shape(net.apply, body, x)[0].shape == (2, 128)
    features = models.resnet12(None)
    assert jax.tree.structure(jax.eval_shape(features.init, key, x)) == jax.tree.structure(body)


def test_under_support_norm_a_query_does_not_see_the_others(key):
    x = jax.random.uniform(key, (6, 16, 16, 1))
    support, transductive = (models.resnet12(3, WIDTHS, mode) for mode in ("support", "transductive"))
    params = shaken(jax.jit(support.init)(key, x))

    @jax.jit
    def run(params):
        together, stats = support.apply(params, x)
        alone = support.apply(params, x[:1], stats)
        return together, stats, alone, transductive.apply(params, x)[0], transductive.apply(params, x[:1])[0]

    together, stats, (alone, passed_on), own_moments, leaky = run(params)
    assert [len(block) for block in stats] == [4, 4, 4, 4]
    np.testing.assert_allclose(own_moments, together, rtol=1e-5, atol=1e-6)  # a batch's own moments, both
    np.testing.assert_allclose(alone, together[:1], rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, passed_on, stats)
    assert not np.allclose(leaky, together[:1], atol=1e-3)


def test_tasks_with_weights_of_their_own_go_through_vmap(key):
    with jax.enable_x64(True):
        x = jax.random.uniform(key, (2, 3, 16, 16, 1), jnp.float64)
        net = models.resnet12(3, (4, 4, 4, 6))
        params = jax.jit(jax.vmap(lambda k: net.init(k, x[0])))(jax.random.split(key))
        run = jax.jit(lambda p, x: net.apply(p, x)[0])
        together = jax.jit(jax.vmap(run))(params, x)
        each = [run(jax.tree.map(lambda a, i=i: a[i], params), x[i]) for i in range(2)]
        np.testing.assert_allclose(together, jnp.stack(each), rtol=1e-9, atol=1e-10)
        assert not np.allclose(run(jax.tree.map(lambda a: a[1], params), x[0]), each[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "batch"}, "unknown norm 'batch'"),
        ({"widths": (4, 4, 4)}, r"four widths.*\(4, 4, 4\)"),
        ({"widths": (4, 4, 4, 0)}, "at least 1"),
        ({"ways": 0}, "at least 1"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        models.resnet12(**settings)


@pytest.mark.parametrize("shape", [(2, 15, 16, 1), (2, 16, 16)])
def test_images_it_cannot_pool_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=r"16x16.*\(2, 1[56], 16"):
        models.resnet12(3).apply({}, jnp.zeros(shape))
