import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.layers import Norm, convolve, convolve_normalised, few_channels, max_pool


@pytest.mark.parametrize(
    ("size", "stride", "shape"), [(3, 1, (7, 7)), (3, 2, (7, 6)), (3, 2, (8, 5)), (1, 2, (5, 4)), (5, 1, (6, 6))]
)
def test_convolve_equals_lax_conv(key, size, stride, shape):
    x = jax.random.normal(key, (2, *shape, 3))
    kernel = jax.random.normal(key, (size, size, 3, 4))
    p = (size - 1) // 2
    dims = ("NHWC", "HWIO", "NHWC")
    want = jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((p, p), (p, p)), dimension_numbers=dims)
    np.testing.assert_allclose(convolve(x, kernel, stride), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (7, 6), (5, 9)])
def test_max_pool_equals_reduce_window(key, shape):
    x = jax.random.normal(key, (2, *shape, 3))
    want = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(x), want)


@pytest.mark.parametrize("downsample", ["pool", "mean", "stride"])
def test_norm_modes_share_parameters_and_differ_in_moments(key, downsample):
    x = jax.random.uniform(key, (6, 16, 16, 1))
    nets = {m: models.conv4(3, 4, m, downsample) for m in ("transductive", "support", "none")}
    params = nets["support"].init(key, x)
    shapes = jax.tree.map(jnp.shape, params)
    assert all(jax.tree.map(jnp.shape, n.init(key, x)) == shapes for n in nets.values())
    out = {m: n.apply(params, x) for m, n in nets.items()}
    assert out["transductive"][1] is None
    assert out["none"][1] is None
    np.testing.assert_array_equal(out["transductive"][0], out["support"][0])  # a batch's own moments, both
    stats = out["support"][1]
    assert len(stats) == 4
    # under the whole batch's moments, one image's outputs do not depend on what else is in its batch
    for net in (nets["support"], nets["transductive"]):
        np.testing.assert_allclose(net.apply(params, x[:1], stats)[0], out["support"][0][:1], rtol=1e-4, atol=1e-5)
    alone = nets["transductive"].apply(params, x[:1])[0]
    assert not np.allclose(alone, out["support"][0][:1], atol=1e-3)


def test_normalised_activations_have_the_moments_asked_for(key):

    x = 3 + 2 * jax.random.normal(key, (50, 4, 4, 5))
    norm = Norm("support")
    variables = norm.init(key, x, None)
    y, (mean, var) = norm.apply(variables, x, None)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (42, 42, 3), (9, 30, 3)])
def test_mean_conv4_pools_three_times_and_then_takes_the_spatial_mean(key, shape):
    net = models.conv4(None, 5, downsample="mean")
    x = want = jax.random.uniform(key, (3, *shape))
    params = net.init(key, x)
    for i in range(4):
        want = jax.lax.conv_general_dilated(
            want, params[f"conv{i}"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        want = (want - want.mean((0, 1, 2))) / jnp.sqrt(want.var((0, 1, 2)) + 1e-5)
        want = jnp.maximum(want * params[f"norm{i}"]["scale"] + params[f"norm{i}"]["shift"], 0)
        want = max_pool(want) if i < 3 else want.mean((1, 2))
    got = net.apply(params, x)[0]
    assert got.shape == (3, 5)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: models.conv4(3, 4), lambda: models.mlp(3, (8, 6))])
def test_without_head_the_features_come_out(key, make):
    net = make()
    x = jax.random.uniform(key, (6, 16, 16, 1))
    params = net.init(key, x)
    body = {k: v for k, v in params.items() if k != "head"}
    features, _ = net.apply(body, x)
    logits, _ = net.apply(params, x)
    head = params["head"]
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "batch"}, "unknown norm 'batch'"),
        ({"downsample": "average"}, "unknown downsample 'average'"),
        ({"width": 0}, "at least 1"),
        ({"ways": 0}, "at least 1"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        models.conv4(**settings)


@pytest.mark.parametrize(("downsample", "least"), [("pool", 16), ("mean", 8)])
def test_too_small_an_image_is_refused_with_its_shape(key, downsample, least):
    small = (2, least - 1, least, 1)
    with pytest.raises(ValueError, match=f"{least}x{least}.*{re.escape(str(small))}"):
        models.conv4(3, 4, downsample=downsample).apply({}, jnp.zeros(small))


@pytest.mark.parametrize("mode", ["transductive", "given", "none"])
@pytest.mark.parametrize(("stride", "pool"), [(1, True), (2, False), (1, False)])
def test_first_block_equals_its_plain_form_to_the_second_derivative(key, mode, stride, pool):
    with jax.enable_x64(True):
        k1, k2, k3 = jax.random.split(key, 3)
        x = jax.random.uniform(k1, (3, 8, 6, 1), jnp.float64)
        kernel = jax.random.normal(k2, (3, 3, 1, 9), jnp.float64)
        scale, shift = 1 + jax.random.normal(k3, (2, 9), jnp.float64)  # of either sign: the gain's turns a maximum
        given = (jnp.full(9, 0.3), jnp.full(9, 2.0)) if mode == "given" else None
        norm = Norm("support" if mode == "given" else mode)

        def plain(x, kernel, scale, shift):
            variables = {"params": {"scale": scale, "shift": shift}}
            y = norm.apply(variables, convolve(x, kernel, stride), given)[0]
            return max_pool(y) if pool else y

        def folded(x, *weights):
            return convolve_normalised(x, *weights, given, norm.mode, stride, pool)[0]

        assert few_channels(x, kernel, pool)
        weights = (x, kernel, scale, shift)
        derived = []
        for form in (plain, folded):
            loss = lambda w, form=form: jnp.sin(3 * form(*w)).sum()  # noqa: E731
            grad = jax.grad(loss)
            hessian = jax.grad(lambda w, grad=grad: sum(jnp.sin(g).sum() for g in grad(w)))
            derived.append((form(*weights), grad(weights), hessian(weights)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), *derived)


@pytest.mark.parametrize("ratio", [1.0, 100.0, 1000.0, 10000.0])
@pytest.mark.parametrize("shape", [(20, 7, 7, 4), (4, 9, 7, 7, 4), (300, 4)])
def test_moments_of_values_far_from_zero_keep_their_digits(key, ratio, shape):
    x = ratio + jax.random.normal(key, shape)
    wide, axes = np.asarray(x, np.float64), tuple(range(len(shape) - 1))
    norm = Norm("support")
    variables = norm.init(key, x, None)
    y, moments = norm.apply(variables, x, None)
    want = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-5)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(moments[1], wide.var(axes), rtol=1e-5)
    # given moments of float32 know the mean to its own rounding, and no more
    np.testing.assert_allclose(norm.apply(variables, x, moments)[0], want, atol=1e-5 + 2e-7 * ratio)


def test_a_first_image_unlike_the_others_does_not_spoil_the_moments(key):
    x = (1000 + jax.random.normal(key, (20, 7, 7, 4))).at[0].set(0.0)
    _, (mean, var) = Norm("support").apply({"params": {"scale": jnp.ones(4), "shift": jnp.zeros(4)}}, x, None)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, wide.var((0, 1, 2)), rtol=1e-4)  # the offset from it is 4 times the deviation


def test_a_norms_derivatives_are_those_of_two_passes_to_the_second_order(key):
    with jax.enable_x64(True):
        x = 3 + jax.random.normal(key, (5, 4, 4, 2), jnp.float64)
        variables = {"params": {"scale": jnp.array([1.0, -2.0]), "shift": jnp.array([0.5, 0.1])}}

        def plain(x):
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            return variables["params"]["scale"] * (x - mean) / jnp.sqrt(var + 1e-5) + variables["params"]["shift"]

        found = []
        for form in (plain, lambda x: Norm("transductive").apply(variables, x, None)[0]):
            slope = jax.grad(lambda x, form=form: jnp.sin(3 * form(x)).sum())
            found.append((form(x), slope(x), jax.grad(lambda x, slope=slope: jnp.sin(slope(x)).sum())(x)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), *found)


@pytest.mark.parametrize("pool", [True, False])
def test_a_first_block_far_from_zero_keeps_its_digits(key, pool):
    x = 1000 + jax.random.normal(key, (20, 8, 8, 1))
    kernel = jax.random.normal(key, (3, 3, 1, 9))
    weights = (kernel, jnp.ones(9), jnp.zeros(9))
    got = convolve_normalised(x, *weights, None, "support", 1, pool)[0]
    with jax.enable_x64(True):
        wide = convolve(x.astype(jnp.float64), kernel.astype(jnp.float64))
        want = (wide - wide.mean((0, 1, 2))) / jnp.sqrt(wide.var((0, 1, 2)) + 1e-5)
        want = max_pool(want) if pool else want
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "x", "said"),
    [
        (models.conv4(5), np.zeros((2, 28, 28), np.float32), r"wants x \[n, height, width, channels\]"),
        (models.conv4(5), np.zeros((2, 8, 8, 1), np.float32), "at least 16x16"),
        (models.resnet12(5), np.zeros((2, 8, 8, 1), np.float32), "at least 16x16"),
        (models.conv4(5), np.zeros((2, 28, 28, 1), np.uint8), "wants floats, not uint8"),
        (models.resnet12(5), np.zeros((2, 28, 28, 1), np.uint8), "wants floats, not uint8"),
        (models.mlp(5), np.zeros((2, 8), np.int32), "wants floats, not int32"),
    ],
)
def test_a_network_refuses_an_input_in_init_as_in_apply(key, net, x, said):
    with pytest.raises(ValueError, match=said):
        net.init(key, x)
    good = np.zeros((2, 28, 28, 1) if x.ndim > 2 else x.shape, np.float32)
    with pytest.raises(ValueError, match=said):
        net.apply(net.init(key, good), x)
