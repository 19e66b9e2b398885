"""iMAML against the closed form of a quadratic, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, Model, models
from mtl_jax.learners.imaml import imaml

LAMBDA = 0.7


def linear_net():
    """y = x w: its support loss is a quadratic, whose proximal problem has a closed form."""
    return Model(
        lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 1), x.dtype)},
        lambda params, x, stats=None: (x @ params["w"], None),
    )


def smooth_net():
    def init(key, x):
        k1, k2 = jax.random.split(key)
        return {"a": jax.random.normal(k1, (x.shape[-1], 5), x.dtype) / 2, "b": jax.random.normal(k2, (5, 1), x.dtype)}

    return Model(init, lambda params, x, stats=None: (jnp.tanh(x @ params["a"]) @ params["b"], None))


def regression(key, n=9, d=6, dtype=jnp.float64):
    sizes = ((n, d), (n, 1), (2 * n, d), (2 * n, 1))
    return Episode(*(jax.random.normal(k, s, dtype) for k, s in zip(jax.random.split(key, 4), sizes, strict=True)))


def closed_form(theta, e):
    """(phi*, the exact meta-gradient) of linear_net: H = 2/n X'X, phi* = (H + lambda I)^-1 (2/n X'y + lambda theta)."""
    x, y, q, t = (np.asarray(a) for a in e[:4])
    hessian = 2 / len(x) * x.T @ x
    phi = np.linalg.solve(hessian + LAMBDA * np.eye(x.shape[1]), 2 / len(x) * x.T @ y + LAMBDA * np.asarray(theta["w"]))
    v = 2 / len(q) * q.T @ (q @ phi - t)
    return phi, np.linalg.solve(np.eye(x.shape[1]) + hessian / LAMBDA, v)


def gradient(learner, theta, e):
    return jax.jit(jax.grad(lambda t: learner.loss(t, e)[0]))(theta)


def test_on_a_quadratic_the_gradient_tends_to_the_exact_one(key):
    with jax.enable_x64(True):
        e = regression(key)
        theta = linear_net().init(key, e.support_x)
        phi, want = closed_form(theta, e)
        settings = {"inner_lr": 0.15, "inner_steps": 800, "regularization": LAMBDA, "damping": 0.0}
        got = imaml(linear_net(), **settings).adapt(theta, e.support_x, e.support_y)
        np.testing.assert_allclose(got.params["w"], phi, rtol=1e-9)
        error = [
            np.linalg.norm(gradient(imaml(linear_net(), **settings, cg_steps=n), theta, e)["w"] - want)
            for n in range(1, 7)
        ]
        assert all(np.diff(error) < 0)
        assert error[-1] < 1e-9 * np.linalg.norm(want) < error[0]  # six unknowns: exact in six steps


def test_without_conjugate_gradient_it_is_the_query_gradient_at_phi(key):
    with jax.enable_x64(True):
        e = regression(key)
        learner = imaml(linear_net(), 0.1, regularization=LAMBDA, cg_steps=0)
        theta = learner.init(key, e.support_x)
        phi = learner.adapt(theta, e.support_x, e.support_y).params["w"]
        want = 2 / len(e.query_x) * e.query_x.T @ (e.query_x @ phi - e.query_y)
        np.testing.assert_allclose(gradient(learner, theta, e)["w"], want, rtol=1e-9)


def test_damping_adds_to_lambda_in_the_system_alone(key):
    with jax.enable_x64(True):
        e = regression(key)
        theta = linear_net().init(key, e.support_x)
        x, q = np.asarray(e.support_x), np.asarray(e.query_x)
        v = 2 / len(q) * q.T @ (q @ closed_form(theta, e)[0] - np.asarray(e.query_y))
        want = np.linalg.solve(np.eye(6) + 2 / len(x) * x.T @ x / (LAMBDA + 3.0), v)
        learner = imaml(linear_net(), 0.15, 800, regularization=LAMBDA, cg_steps=6, damping=3.0)
        np.testing.assert_allclose(gradient(learner, theta, e)["w"], want, rtol=1e-8)


def test_with_many_steps_it_is_the_gradient_of_the_solution_and_of_the_data(key):
    """Central differences of the query loss of the solved problem, in theta, support_x and support_y."""
    with jax.enable_x64(True):
        e = regression(key, 7, 3)
        learner = imaml(smooth_net(), 0.1, 1500, regularization=2.0, cg_steps=40, damping=0.0)
        point = (learner.init(key, e.support_x), e.support_x, e.support_y)
        flat, back = jax.flatten_util.ravel_pytree(point)

        @jax.jit
        def loss(v):
            theta, x, y = back(v)
            return learner.loss(theta, e._replace(support_x=x, support_y=y))[0]

        g, h = jax.jit(jax.grad(loss))(flat), 1e-5
        for along in jnp.stack(
            [jnp.where(jax.random.bernoulli(k, shape=flat.shape), 1.0, -1.0) for k in jax.random.split(key, 4)]
        ):
            np.testing.assert_allclose(
                g @ along, (loss(flat + h * along) - loss(flat - h * along)) / (2 * h), rtol=1e-5
            )


def test_memory_does_not_grow_with_inner_steps(key):
    e = regression(key, dtype=jnp.float32)

    def held(steps):
        learner = imaml(models.mlp(1, (8,)), inner_steps=steps)
        theta = learner.init(key, e.support_x)
        compiled = jax.jit(jax.grad(lambda t, e: learner.loss(t, e)[0])).lower(theta, e).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert held(50) == held(5) > 0


def test_any_inner_optimiser_even_without_a_derivative_at_zero(key):
    with jax.enable_x64(True):
        e = regression(key)
        theta = linear_net().init(key, e.support_x)
        learner = imaml(
            linear_net(),
            inner_steps=3000,
            inner_optimizer=optax.adam(0.02),
            regularization=LAMBDA,
            cg_steps=6,
            damping=0.0,
        )
        np.testing.assert_allclose(gradient(learner, theta, e)["w"], closed_form(theta, e)[1], rtol=1e-4)


def test_vmap_equals_a_loop(key):
    with jax.enable_x64(True):
        es = jax.vmap(regression)(jax.random.split(key, 3))
        learner = imaml(smooth_net())
        theta = learner.init(key, es.support_x[0])
        each = [gradient(learner, theta, jax.tree.map(lambda a, i=i: a[i], es)) for i in range(3)]
        got = jax.jit(jax.vmap(lambda e: gradient(learner, theta, e)))(es)
        jax.tree.map(lambda a, *b: np.testing.assert_allclose(a, np.stack(b), rtol=1e-9), got, *each)


def test_images_under_support_norm(key):
    y = jnp.arange(3, dtype=jnp.int32)
    e = Episode(jax.random.uniform(key, (3, 8, 8, 1)), y, jax.random.uniform(key, (6, 8, 8, 1)), jnp.repeat(y, 2), y)
    learner = imaml(models.conv4(3, 4, "support", "stride"), inner_steps=3)

    @jax.jit
    def everything(theta, e):
        phi = learner.adapt(theta, e.support_x, e.support_y)
        together, apart = (learner.predict(theta, phi, x) for x in (e.query_x, e.query_x[:2]))
        return jax.grad(learner.loss, has_aux=True)(theta, e), together, apart

    (grads, metrics), together, apart = everything(learner.init(key, e.support_x), e)
    np.testing.assert_allclose(together[:2], apart, rtol=1e-4, atol=1e-4)
    assert all(bool(jnp.isfinite(g).all()) and bool(g.any()) for g in jax.tree.leaves(grads))
    assert metrics["accuracy"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"regularization": 0.0}, "regularization must be above 0"),
        ({"cg_steps": -1}, "cg_steps must be at least 0"),
        ({"damping": -1.0}, "damping must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        imaml(models.mlp(1), **settings)
