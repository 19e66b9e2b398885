"""MAML against closed forms, finite differences and second ways of computing the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from mtl_jax import Episode, Model, learners, models
from mtl_jax.learners.objective import objective
from mtl_jax.run.parallel import meta_gradient


def episode(key, ways=3, shots=2, queries=4, dtype=jnp.float32, side=16):
    k1, k2 = jax.random.split(key)
    y = jnp.arange(ways, dtype=jnp.int32)
    x = [jax.random.uniform(k, (ways * n, side, side, 1), dtype) for k, n in ((k1, shots), (k2, queries))]
    return Episode(x[0], jnp.repeat(y, shots), x[1], jnp.repeat(y, queries), y)


def smooth_net():
    """Two layers with tanh: every derivative exists, so that finite differences mean something."""

    def init(key, x):
        k1, k2 = jax.random.split(key)
        d = x[0].size
        return {"a": jax.random.normal(k1, (d, 5), x.dtype) / d**0.5, "b": jax.random.normal(k2, (5, 3), x.dtype)}

    def apply(params, x, stats=None):
        return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"], None

    return Model(init, apply)


def support_loss(net, e):
    return lambda p: objective(net.apply(p, e.support_x, None)[0], e.support_y)[0]


def query_loss(net, e):
    return lambda p: objective(net.apply(p, e.query_x, None)[0], e.query_y)[0]


def gradient(learner, theta, e):
    return jax.grad(lambda t: learner.loss(t, e)[0])(theta)


def close(a, b, rtol, atol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_one_step_gradient_is_v_minus_alpha_h_v(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64, side=4)
        net = smooth_net()
        theta = net.init(key, e.support_x)
        inner = jax.grad(support_loss(net, e))
        phi = jax.tree.map(lambda p, g: p - 0.3 * g, theta, inner(theta))
        v = jax.grad(query_loss(net, e))(phi)
        _, hv = jax.jvp(inner, (theta,), (v,))
        want = jax.tree.map(lambda v, hv: v - 0.3 * hv, v, hv)
        close(gradient(learners.maml(net, 0.3, 1), theta, e), want, rtol=1e-6, atol=1e-12)


def test_order_1_is_the_query_gradient_at_phi_and_order_2_is_not(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64, side=4)
        net = smooth_net()
        theta = net.init(key, e.support_x)
        first, second = (learners.maml(net, 0.3, 3, order) for order in (1, 2))
        phi = first.adapt(theta, e.support_x, e.support_y)
        want = jax.grad(query_loss(net, e))(phi.params)
        got = gradient(first, theta, e)
        close(got, want, rtol=1e-9)
        exact = gradient(second, theta, e)
        assert optax.tree.norm(jax.tree.map(jnp.subtract, got, exact)) > 0.01 * optax.tree.norm(exact)


@pytest.mark.parametrize("inner", [None, optax.adam(0.1, eps_root=1e-6)])
def test_finite_differences_through_five_inner_steps(key, inner):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64, side=4)
        net = smooth_net()
        learner = learners.maml(net, 0.3, 5, inner_optimizer=inner)
        check_grads(lambda t: learner.loss(t, e)[0], (net.init(key, e.support_x),), order=1, modes=["rev"], eps=1e-6)


def test_adapt_equals_hand_written_descent(key):
    e = episode(key)
    net = models.conv4(3, 4)
    learner = learners.maml(net, 0.3, 2, test_steps=3)
    theta = learner.init(key, e.support_x)
    phi = theta
    for _ in range(3):
        phi = jax.tree.map(lambda p, g: p - 0.3 * g, phi, jax.grad(support_loss(net, e))(phi))
    got = learner.adapt(theta, e.support_x, e.support_y)
    close(got.params, phi, rtol=1e-4, atol=1e-5)


def test_remat_changes_nothing(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64)
        net = models.conv4(3, 4)
        theta = net.init(key, e.support_x)
        on, off = (gradient(learners.maml(net, 0.3, 2, remat=r), theta, e) for r in (True, False))
        close(on, off, rtol=1e-9, atol=1e-12)


def test_vmap_equals_a_loop_and_chunks_of_any_width_agree(key):
    keys = jax.random.split(key, 5)
    es = jax.vmap(episode)(keys)
    learner = learners.maml(smooth_net(), 0.3, 2)
    theta = learner.init(key, es.support_x[0])
    each = [gradient(learner, theta, jax.tree.map(lambda a, i=i: a[i], es)) for i in range(5)]
    want = jax.tree.map(lambda *g: sum(g) / 5, *each)
    for width in (1, 2, 3, 5, 8):
        got, metrics = jax.jit(meta_gradient, static_argnums=(0, 3))(learner.loss, theta, es, width)
        close(got, want, rtol=2e-5, atol=1e-6)
        assert set(metrics) == {"loss", "accuracy"}


def test_under_support_norm_a_query_does_not_see_the_others(key):
    e = episode(key)
    for norm, leak in (("support", False), ("transductive", True)):
        learner = learners.maml(models.conv4(3, 4, norm), 0.1, 1)
        theta = learner.init(key, e.support_x)
        phi = learner.adapt(theta, e.support_x, e.support_y)
        together = learner.predict(theta, phi, e.query_x)[:2]
        apart = learner.predict(theta, phi, e.query_x[:2])
        assert np.allclose(together, apart, rtol=1e-4, atol=1e-5) != leak


def test_regression_takes_float_targets(key):
    x = jax.random.normal(key, (6, 1))
    e = Episode(x, jnp.sin(x), x, jnp.sin(x))
    learner = learners.maml(models.mlp(1), 0.01, 1)
    theta = learner.init(key, x)
    loss, metrics = learner.loss(theta, e)
    phi = learner.adapt(theta, x, jnp.sin(x))
    want = np.mean((np.asarray(learner.predict(theta, phi, x)) - np.sin(x)) ** 2)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert metrics["mse"] == loss
    with pytest.raises(ValueError, match=r"\(6, 1\).*\(6,\)"):
        learner.loss(theta, e._replace(support_y=jnp.zeros(6)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"order": 3}, "order must be 1 or 2"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        learners.maml(models.mlp(1), **settings)


def test_adam_without_eps_root_is_what_the_check_says(key):
    """The refusal is no superstition: the meta-gradient of such a loop is NaN at a dead unit."""
    from mtl_jax.learners.inner import inner_loop

    rule = optax.adam(0.1)

    def loss(p):
        return p[0] ** 2 + p[1] ** 2 * 0.0

    g = jax.grad(lambda p: inner_loop(loss, p, rule, 2)[0].sum())(jnp.ones(2))
    assert bool(jnp.isnan(g).any())
