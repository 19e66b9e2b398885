"""The LSTM meta-learner against gradient descent, its equations in numpy, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, Model, learners, models
from mtl_jax.learners.lstm import lstm, prep
from mtl_jax.learners.objective import objective


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


def episode(key, dtype=jnp.float32):
    k1, k2 = jax.random.split(key)
    y = jnp.arange(3, dtype=jnp.int32)
    x = [jax.random.normal(k, (n, 4), dtype) for k, n in ((k1, 6), (k2, 9))]
    return Episode(x[0], jnp.repeat(y, 2), x[1], jnp.repeat(y, 3), y)


def close(a, b, rtol, atol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def strong(theta, key):
    """The same theta with weights of the gates and the LSTM that matter, so that nothing hides behind 0.01."""
    leaves, tree = jax.tree.flatten({k: theta[k] for k in ("lstm", "gates")})
    keys = jax.random.split(key, len(leaves))
    moved = [0.5 * jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)]
    return {**theta, **jax.tree.unflatten(tree, moved)}


def test_with_gates_at_rest_it_is_gradient_descent(key):
    with jax.enable_x64(True):
        e, net, alpha = episode(key, jnp.float64), smooth_net(), 0.3
        learner = lstm(net, 2, test_steps=4)
        theta = learner.init(key, e.support_x)
        gates = {"kernel": 0.0 * theta["gates"]["kernel"], "bias": jnp.array([50.0, np.log(alpha / (1 - alpha))])}
        got = learner.adapt({**theta, "gates": gates}, e.support_x, e.support_y)
        want = learners.maml(net, alpha, 4, order=1).adapt(theta["net"], e.support_x, e.support_y)
        close(got.params, want.params, rtol=1e-9)
        started = learner.adapt(theta, e.support_x, e.support_y).params
        assert optax.tree.norm(jax.tree.map(jnp.subtract, started, want.params)) > 0.01


def test_with_a_rate_given_it_starts_as_gradient_descent(key):
    with jax.enable_x64(True):
        e, net, alpha = episode(key, jnp.float64), smooth_net(), 0.3
        theta = lstm(net, 3, inner_lr=alpha).init(key, e.support_x)
        close(jax.nn.sigmoid(theta["gates"]["bias"]), jnp.array([0.999, alpha]), rtol=1e-9)
        want = learners.maml(net, alpha, 3, order=1).adapt(theta["net"], e.support_x, e.support_y).params
        moved = optax.tree.norm(jax.tree.map(jnp.subtract, theta["net"], want))

        def distance(learner):
            got = learner.adapt(theta | {"gates": learner.init(key, e.support_x)["gates"]}, e.support_x, e.support_y)
            return optax.tree.norm(jax.tree.map(jnp.subtract, got.params, want)) / moved

        assert distance(lstm(net, 3, inner_lr=alpha)) < 0.05
        assert distance(lstm(net, 3)) > 0.9


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0, 2.0])
def test_a_gate_has_no_rate_outside_0_and_1(rate):
    with pytest.raises(ValueError, match="inner_lr must be"):
        lstm(smooth_net(), inner_lr=rate)


def numpy_adapt(net, theta, e, steps, p=10.0):
    """One weight after the other, straight from the paper's equations."""
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    flat, back = jax.flatten_util.ravel_pytree(theta["net"])
    cell, gates = (jax.tree.map(np.asarray, theta[k]) for k in ("lstm", "gates"))
    loss = jax.jit(jax.value_and_grad(lambda w: objective(net.apply(back(w), e.support_x)[0], e.support_y)[0]))
    w, last = np.array(flat), np.zeros((len(flat), 2))
    c, h = np.zeros((len(w), 3)), np.zeros((len(w), 3))
    pair = lambda v: (np.log(abs(v)) / p, np.sign(v)) if abs(v) >= np.exp(-p) else (-1.0, np.exp(p) * v)  # noqa: E731
    for _ in range(steps):
        value, slope = map(np.asarray, loss(jnp.asarray(w)))
        for j in range(len(w)):
            seen = [*pair(slope[j]), *pair(value), *h[j]]
            i, f, g, o = np.split(cell["kernel"] @ seen + cell["bias"], 4)
            c[j] = sigmoid(f) * c[j] + sigmoid(i) * np.tanh(g)
            h[j] = sigmoid(o) * np.tanh(c[j])
            for gate in (0, 1):
                last[j, gate] = sigmoid(gates["kernel"][gate] @ [*h[j], w[j], last[j, gate]] + gates["bias"][gate])
            w[j] = last[j, 0] * w[j] - last[j, 1] * slope[j]
    return back(jnp.asarray(w))


def test_adapt_equals_the_equations_weight_by_weight(key):
    with jax.enable_x64(True):
        e, net = episode(key, jnp.float64), smooth_net()
        learner = lstm(net, 3, hidden=3)
        theta = strong(learner.init(key, e.support_x), key)
        close(learner.adapt(theta, e.support_x, e.support_y).params, numpy_adapt(net, theta, e, 3), rtol=1e-9)


def test_meta_gradient_takes_slopes_and_losses_for_constants(key):
    with jax.enable_x64(True):
        x, y = jax.random.normal(key, (8, 4), jnp.float64), jnp.zeros((8, 1), jnp.float64)
        e = Episode(x[:4], y[:4], x[4:], y[4:])
        net = Model(
            lambda key, x: {"w": jax.random.normal(key, (4, 1), x.dtype)}, lambda p, x, s=None: (x @ p["w"], None)
        )
        learner = lstm(net, 1, hidden=3)
        theta = strong(learner.init(key, x), key)
        fixed = jax.grad(lambda p: objective(net.apply(p, e.support_x)[0], e.support_y)[0])(theta["net"])["w"][:, 0]
        value = objective(net.apply(theta["net"], e.support_x)[0], e.support_y)[0]
        grads = jax.jit(jax.grad(lambda t: learner.loss(t, e)[0]))(theta)

        def by_hand(theta):
            """One step in which slope and loss are numbers."""
            seen = jnp.concatenate((prep(fixed, 10.0), jnp.broadcast_to(prep(value, 10.0)[:, None], (2, 4))))
            i, _, g, o = jnp.split(theta["lstm"]["kernel"][:, :4] @ seen + theta["lstm"]["bias"][:, None], 4)
            h = jax.nn.sigmoid(o) * jnp.tanh(jax.nn.sigmoid(i) * jnp.tanh(g))
            w, (of_f, of_i), (b_f, b_i) = theta["net"]["w"][:, 0], theta["gates"]["kernel"], theta["gates"]["bias"]
            f = jax.nn.sigmoid(of_f[:3] @ h + of_f[3] * w + b_f)
            i = jax.nn.sigmoid(of_i[:3] @ h + of_i[3] * w + b_i)
            return jnp.square(e.query_x @ (f * w - i * fixed)[:, None] - e.query_y).mean()

        close(grads, jax.jit(jax.grad(by_hand))(theta), rtol=1e-9, atol=1e-12)
        assert optax.tree.norm(grads["lstm"]) > 1e-3


def test_remat_and_vmap_change_nothing_and_gradients_reach_all(key):
    with jax.enable_x64(True):
        es = jax.vmap(lambda k: episode(k, jnp.float64))(jax.random.split(key, 2))
        on, off = (lstm(smooth_net(), 2, remat=r, hidden=3) for r in (True, False))
        theta = on.init(key, es.support_x[0])
        grads = [
            jax.jit(jax.grad(lambda t, n=n: jax.vmap(n.loss, (None, 0))(t, es)[0].mean()))(theta) for n in (on, off)
        ]
        close(*grads, rtol=1e-9, atol=1e-15)
        one = jax.jit(jax.grad(lambda t, e: off.loss(t, e)[0]))
        each = [one(theta, jax.tree.map(lambda a, i=i: a[i], es)) for i in range(2)]
        close(grads[0], jax.tree.map(lambda a, b: (a + b) / 2, *each), rtol=1e-9, atol=1e-15)
        assert all((np.asarray(g) != 0).any() for g in jax.tree.leaves(grads[0]))


def test_starts_as_the_paper_says(key):
    theta = lstm(smooth_net()).init(key, jnp.zeros((1, 4)))
    kernel, (forget, rate) = theta["gates"]["kernel"], theta["gates"]["bias"]
    assert 4 < forget < 5
    assert -5 < rate < -4
    assert kernel.shape == (2, 22)
    assert max(float(jnp.abs(w).max()) for w in (kernel, *jax.tree.leaves(theta["lstm"]))) <= 0.01


def test_prep_of_large_small_and_no_numbers():
    x = jnp.array([1.0, -np.e, np.exp(-5.0), np.exp(-11.0), -np.exp(-12.0), 0.0], jnp.float32)
    want = [(0, 1), (0.1, -1), (-0.5, 1), (-1, np.exp(-1)), (-1, -np.exp(-2)), (-1, 0)]
    np.testing.assert_allclose(prep(x, 10.0).T, want, rtol=1e-5, atol=1e-6)


def test_queries_use_the_moments_of_the_support_set(key):
    e = episode(key)
    learner = lstm(smooth_net("support"), 1, hidden=3)
    theta = learner.init(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    seen = learner.predict(theta, phi, e.query_x)[:2], learner.predict(theta, phi, e.query_x[:2])
    np.testing.assert_allclose(*seen, rtol=1e-4, atol=1e-5)


def test_meta_training_learns_a_regression(key):
    x = jnp.linspace(-2.0, 2.0, 8)[:, None]
    learner = lstm(models.mlp(1, (8,)), 2, hidden=4)
    theta, rule = learner.init(key, x), optax.adam(0.02)

    def step(carry, key):
        theta, state = carry
        y = jnp.sin(x + jax.random.uniform(key))
        grads, metrics = jax.grad(learner.loss, has_aux=True)(theta, Episode(x, y, x, y))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = rule.update(grads, state)
        return (optax.apply_updates(theta, updates), state), metrics["mse"]

    _, mse = jax.lax.scan(step, (theta, rule.init(theta)), jax.random.split(key, 150))
    assert mse[-10:].mean() < 0.2 * mse[:10].mean()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"hidden": 0}, "hidden"),
        ({"p": 0.0}, "p must be above 0"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        lstm(models.mlp(1), **settings)
