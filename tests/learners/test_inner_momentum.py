"""Momentum of the inner SGD: its closed form, its meta-gradient, and the methods that have it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, learners, models

METHODS = ("maml", "fomaml", "anil", "boil", "cavia", "imaml", "meta_sgd", "mamlpp", "mtl", "proto_maml")
LEARNED = ("meta_sgd", "mamlpp")  # rates, which start at 1 beside an optimiser that is given


def small_episode(key, dtype=jnp.float32):
    y = jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2)
    x = jax.random.normal(key, (2, 6, 16, 16, 1), dtype)
    return Episode(x[0], y, x[1], y)


def network(name):
    if name == "mtl":
        return models.conv4(3, 4, downsample="stride")
    return models.mlp(None if name == "proto_maml" else 3, (5,))


def moved(theta, key):
    """theta and a random step from it: heads that start at 0 give a body no gradient."""
    leaves, tree = jax.tree.flatten(theta)
    pairs = zip(jax.random.split(key, len(leaves)), leaves, strict=True)
    towards = jax.tree.unflatten(tree, [jax.random.normal(k, a.shape, a.dtype) for k, a in pairs])
    return jax.tree.map(lambda t, d: t + 0.3 * d, theta, towards), towards


def test_steps_on_a_quadratic_are_those_of_the_closed_form(key):
    """Of a linear model and a squared error, phi - phi* follows u_{k+1} = (1 + m - a H) u_k - m u_{k-1}."""
    with jax.enable_x64(True):
        x, y = jax.random.normal(key, (8, 3), jnp.float64), jax.random.normal(jax.random.key(1), (8, 1), jnp.float64)
        rate, m, steps = 0.05, 0.8, 7
        learner = learners.maml(models.mlp(1, ()), rate, steps, inner_momentum=m)
        theta = learner.init(key, x)
        phi = learner.adapt(theta, x, y).params

        def whole(head):
            return np.vstack((head["kernel"], head["bias"]))

        ones = np.hstack((x, np.ones((8, 1))))
        hessian, best = 2 / 8 * ones.T @ ones, np.linalg.lstsq(ones, y, rcond=None)[0]
        before = now = whole(theta["head"]) - best
        for _ in range(steps):
            now, before = (1 + m) * now - rate * hessian @ now - m * before, now
        np.testing.assert_allclose(whole(phi["head"]), best + now, rtol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_inner_sgd_takes_momentum_as_optax_has_it(key, name):
    task, rate = small_episode(key), 1.0 if name in LEARNED else 0.1
    make = getattr(learners, name)
    own = make(network(name), rate, 3, inner_momentum=0.7)
    given = make(network(name), inner_steps=3, inner_optimizer=optax.sgd(rate, momentum=0.7))
    plain = make(network(name), rate, 3)
    theta, _ = moved(own.init(key, task.support_x), key)
    values = [jax.jit(jax.value_and_grad(lambda t, of=of: of.loss(t, task)[0]))(theta) for of in (own, given, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *values[:2])
    assert abs(values[0][0] - values[2][0]) > 1e-3  # it does something


@pytest.mark.parametrize("name", ["maml", "anil", "mamlpp", "meta_sgd"])
def test_the_meta_gradient_through_momentum_is_that_of_finite_differences(key, name):
    with jax.enable_x64(True):
        task = small_episode(key, jnp.float64)
        learner = getattr(learners, name)(models.mlp(3, (5,)), 0.1, 4, inner_momentum=0.9)
        theta = jax.tree.map(lambda a: a.astype(jnp.float64), learner.init(key, task.support_x))
        theta, towards = moved(theta, jax.random.key(2))

        @jax.jit
        def along(e):
            return learner.loss(jax.tree.map(lambda t, d: t + e * d, theta, towards), task)[0]

        slope = (along(1e-6) - along(-1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_momentum_out_of_range_or_beside_an_optimiser_is_refused(name):
    make, net = getattr(learners, name), network(name)
    for wrong in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"inner_momentum must be in \[0, 1\), not {wrong}"):
            make(net, inner_momentum=wrong)
    with pytest.raises(ValueError, match=r"inner_momentum 0.9 is of the inner SGD.*leave inner_momentum out"):
        make(net, inner_optimizer=optax.sgd(0.1), inner_momentum=0.9)
