"""Reptile against theta - phi, against MAML's inner loop, and what its mini-batches hold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, Model, learners, models
from mtl_jax.learners.objective import objective
from mtl_jax.learners.reptile import interleave, reptile


def smooth_net(norm="none"):
    """tanh after a linear layer, centred by moments unless norm="none", as a convolution network's would be."""

    def init(key, x):
        k1, k2 = jax.random.split(key)
        return {"a": jax.random.normal(k1, (4, 5), x.dtype) / 2, "b": jax.random.normal(k2, (5, 3), x.dtype)}

    def apply(params, x, stats=None):
        z = x @ params["a"]
        mean = z.mean(0) if stats is None else stats
        z = z if norm == "none" else z - mean
        return jnp.tanh(z) @ params["b"], mean if norm == "support" else None

    return Model(init, apply)


def episode(key, labels=(2, 0, 1, 0, 2, 2), queries=(0, 1, 2, 0, 1, 2), dtype=jnp.float32):
    k1, k2 = jax.random.split(key)
    x = [jax.random.normal(k, (len(y), 4), dtype) for k, y in ((k1, labels), (k2, queries))]
    y = [jnp.array(y, jnp.int32) for y in (labels, queries)]
    return Episode(x[0], y[0], x[1], y[1], jnp.arange(3, dtype=jnp.int32))


def together(e):
    return jnp.concatenate((e.support_x, e.query_x)), jnp.concatenate((e.support_y, e.query_y))


adam = partial(reptile, inner_rule="adam", test_steps=None)  # the authors' rule; as many steps at test as in training


def equal(a, b, rtol=0.0, atol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_gradient_is_theta_minus_phi_exactly(key):
    e, learner = episode(key), adam(smooth_net(), 0.01, 3, batch=5)
    theta = learner.init(key, e.support_x)
    grads, metrics = jax.grad(learner.loss, has_aux=True)(theta, e)
    phi = learner.adapt(theta, *together(e))  # support and query both train
    equal(grads, jax.tree.map(jnp.subtract, theta, phi.params))
    assert optax.tree.norm(grads) > 0.01
    away = sum(float(((t - p) ** 2).sum()) for t, p in zip(*map(jax.tree.leaves, (theta, phi.params)), strict=True))
    np.testing.assert_allclose(learner.loss(theta, e)[0], away / 2, rtol=1e-5)
    right = learner.predict(theta, phi, e.query_x).argmax(-1) == e.query_y
    np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-6)


def test_outer_sgd_of_rate_1_ends_at_the_mean_of_the_solutions(key):
    es = jax.vmap(episode)(jax.random.split(key, 3))
    learner = adam(smooth_net(), 0.01, 2)
    theta = learner.init(key, es.support_x[0])
    grads = jax.jit(jax.grad(lambda t: jax.vmap(learner.loss, (None, 0))(t, es)[0].mean()))(theta)
    phis = jax.jit(jax.vmap(lambda e: learner.adapt(theta, *together(e)).params))(es)
    got = jax.tree.map(jnp.subtract, theta, grads)
    equal(got, jax.tree.map(lambda p: p.mean(0), phis), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "rule",
    [
        {"inner_optimizer": optax.sgd(0.3), "batch": None},
        {"inner_optimizer": optax.sgd(0.3), "batch": 6},
        {"inner_rule": "sgd", "inner_lr": 0.3, "batch": 99},
    ],
)
def test_whole_batches_of_sgd_are_the_inner_loop_of_maml(key, rule):
    with jax.enable_x64(True):
        e, net = episode(key, dtype=jnp.float64), smooth_net()
        theta = net.init(key, e.support_x)
        got = reptile(net, inner_steps=2, test_steps=4, **rule)
        want = learners.maml(net, 0.3, 4, order=1)
        task = theta, e.support_x, e.support_y
        equal(got.adapt(*task).params, want.adapt(*task).params, rtol=1e-9)


def test_mini_batches_of_adam_equal_a_loop_by_hand(key):
    """Ragged labels 2 0 1 0 2 2: rounds of (2 0 1), (0 2), (2), which batches of 4 cycle through."""
    with jax.enable_x64(True):
        e, net = episode(key, dtype=jnp.float64), smooth_net()
        learner = adam(net, 0.05, 3, batch=4)
        theta = net.init(key, e.support_x)
        m2 = jax.tree.map(jnp.zeros_like, theta)
        phi = theta
        for k, rows in enumerate(([0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]), 1):
            x, y = e.support_x[jnp.array(rows)], e.support_y[jnp.array(rows)]
            g = jax.grad(lambda p, x=x, y=y: objective(net.apply(p, x)[0], y)[0])(phi)
            m2 = jax.tree.map(lambda m, g: 0.999 * m + 0.001 * g * g, m2, g)
            scale = 1 - 0.999**k
            phi = jax.tree.map(lambda p, g, m, s=scale: p - 0.05 * g / (jnp.sqrt(m / s) + 1e-8), phi, g, m2)
        equal(learner.adapt(theta, e.support_x, e.support_y).params, phi, rtol=1e-8)


def test_rounds_hold_one_of_every_class_that_is_left():
    y = np.repeat([3, 0, 2, 1], [4, 1, 2, 4])
    order = np.asarray(jax.jit(interleave)(jnp.asarray(y)))
    assert sorted(order) == list(range(11))
    assert [sorted(y[order][a:b]) for a, b in ((0, 4), (4, 7), (7, 9), (9, 11))] == [
        [0, 1, 2, 3],
        [1, 2, 3],
        [1, 3],
        [1, 3],
    ]
    assert interleave(jnp.ones((3, 1))).tolist() == [0, 1, 2]


def test_five_batches_of_ten_are_each_of_fifty_examples_once(key):
    """What the defaults come to: a network whose only weight counts how often each example was seen."""

    def apply(params, x, stats=None):
        return x @ params["w"], None

    net = Model(lambda key, x: {"w": jnp.zeros((x.shape[1], 5), x.dtype)}, apply)
    y = jnp.concatenate((jnp.arange(5), jnp.repeat(jnp.arange(5), 9)))  # 1 shot, then 9 queries a class
    learner = adam(net, inner_steps=5, inner_optimizer=optax.sgd(1.0), batch=10)
    phi = learner.adapt(learner.init(key, jnp.eye(50)), jnp.eye(50), y)
    # example i moves row i alone, from zeros, by (onehot - 1/5) / 10 a time that it is seen
    np.testing.assert_allclose(phi.params["w"], (np.eye(5)[np.asarray(y)] - 0.2) / 10, atol=1e-6)


def test_norm_decides_whether_queries_see_each_other(key):
    e = episode(key)
    for norm, leak in (("support", False), ("transductive", True)):
        learner = reptile(smooth_net(norm), inner_steps=1)
        theta = learner.init(key, e.support_x)
        phi = learner.adapt(theta, e.support_x, e.support_y)
        assert (phi.stats is None) == leak
        seen = learner.predict(theta, phi, e.query_x)[:2], learner.predict(theta, phi, e.query_x[:2])
        assert np.allclose(*seen, rtol=1e-4, atol=1e-5) != leak


def test_regression_improves(key):
    x = jnp.linspace(-2.0, 2.0, 12)[:, None]
    e = Episode(x[::2], jnp.sin(x[::2]), x[1::2], jnp.sin(x[1::2]))
    learner = reptile(models.mlp(1, (8,)), 0.02, 2, test_steps=50, batch=4)
    theta = learner.init(key, x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    before, after = (
        jnp.square(models.mlp(1, (8,)).apply(p, e.support_x)[0] - e.support_y).mean() for p in (theta, phi.params)
    )
    assert after < 0.5 * before
    assert set(learner.loss(theta, e)[1]) == {"mse"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"test_steps": 0}, "inner steps must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"inner_rule": "lion"}, "unknown inner_rule 'lion': choose adam or sgd"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        reptile(models.mlp(1), **settings)
