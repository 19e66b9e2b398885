"""R2-D2 against numpy, the two forms against each other, Newton's end against its stationary point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mtl_jax import Episode, Model
from mtl_jax.learners.ridge import logistic, r2d2, ridge


def smooth_net(width=4):
    """One layer with tanh: every derivative exists, so that finite differences mean something."""

    def init(key, x):
        return {"a": jax.random.normal(key, (x.shape[1], width), x.dtype)}

    return Model(init, lambda params, x, stats=None: (jnp.tanh(x @ params["a"]), None))


def episode(key, labels=(0, 0, 1, 2, 2, 2), queries=2, dtype=jnp.float32):
    k1, k2 = jax.random.split(key)
    y, ways = jnp.array(labels, jnp.int32), max(labels) + 1
    query_y = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), queries)
    x = jax.random.normal(k1, (len(labels), 3), dtype), jax.random.normal(k2, (ways * queries, 3), dtype)
    return Episode(x[0], y, x[1], query_y, jnp.arange(ways, dtype=jnp.int32))


@pytest.mark.parametrize(("n", "d"), [(4, 9), (9, 4), (5, 5)])
def test_both_forms_equal_numpy(key, n, d):
    with jax.enable_x64(True):
        x = jax.random.normal(key, (n, d), jnp.float64)
        y = jax.random.normal(jax.random.key(1), (n, 3), jnp.float64)
        want = np.linalg.solve(np.asarray(x.T @ x) + 0.3 * np.eye(d), np.asarray(x.T @ y))
        for form in ("primal", "woodbury", "auto"):
            np.testing.assert_allclose(ridge(x, y, jnp.float64(0.3), form), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(2, 7), (7, 2)])
def test_auto_solves_the_smaller_system(n, d):
    args = jnp.zeros((n, d)), jnp.zeros((n, 1)), jnp.float32(1)
    assert "f32[2,2]" in str(jax.make_jaxpr(ridge)(*args))
    assert "f32[7,7]" not in str(jax.make_jaxpr(ridge)(*args))


@pytest.mark.parametrize("form", ["primal", "woodbury"])
def test_newton_ends_where_the_gradient_is_zero(key, form):
    with jax.enable_x64(True):
        x = jax.random.normal(key, (8, 5), jnp.float64)
        y = jax.nn.one_hot(jnp.array([0, 0, 1, 1, 1, 2, 2, 2]), 4, dtype=jnp.float64)
        w = logistic(x, y, jnp.float64(0.5), 12, form)
        np.testing.assert_allclose(x.T @ (jax.nn.sigmoid(x @ w) - y) + 0.5 * w, 0, atol=1e-8)
        assert np.abs(w).max() > 0.1


def test_two_classes_are_the_binary_problem_and_its_mirror(key):
    with jax.enable_x64(True):
        x = jax.random.normal(key, (6, 9), jnp.float64)
        w = logistic(x, jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1, 0]), 2, dtype=jnp.float64), jnp.float64(1), 3)
        np.testing.assert_allclose(w[:, 0], -w[:, 1], rtol=1e-9)


def test_prediction_is_the_scaled_solution_with_a_bias_column(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64)
        net = smooth_net()
        learner = r2d2(net)
        theta = learner.init(key, e.support_x)
        theta["ridge"] = {k: jnp.float64(v) for k, v in (("log_lambda", 0.2), ("log_scale", 0.7), ("offset", 0.4))}
        z, q = (np.column_stack([net.apply(theta["net"], x)[0], np.ones(len(x))]) for x in (e.support_x, e.query_x))
        w = np.linalg.solve(z.T @ z + np.exp(0.2) * np.eye(5), z.T @ np.eye(3)[np.asarray(e.support_y)])
        phi = learner.adapt(theta, e.support_x, e.support_y)
        np.testing.assert_allclose(learner.predict(theta, phi, e.query_x), np.exp(0.7) * q @ w + 0.4, rtol=1e-9)


@pytest.mark.parametrize(("head", "form"), [("ridge", "primal"), ("ridge", "woodbury"), ("logistic", "auto")])
def test_finite_differences_through_the_solution(key, head, form):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64)
        learner = r2d2(smooth_net(), head, 3, form=form)
        theta = learner.init(key, e.support_x)
        check_grads(lambda t: learner.loss(t, e)[0], (theta,), order=1, modes=["rev"], eps=1e-6)
        grads = jax.grad(lambda t: learner.loss(t, e)[0])(theta)["ridge"]
        assert abs(grads["log_lambda"]) > 1e-4
        assert abs(grads["log_scale"]) > 1e-4
        np.testing.assert_allclose(grads["offset"], 0, atol=1e-12)  # what moves all logits alike moves no softmax


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_classes_without_support_are_empty_also_while_tracing(key, head):
    e = episode(key, (2, 0, 2, 2, 0))
    learner = r2d2(smooth_net(), head)
    theta = learner.init(key, e.support_x)

    def logits(x, y, q):
        return learner.predict(theta, learner.adapt(theta, x, y), q)

    eager, traced = (f(e.support_x, e.support_y, e.query_x) for f in (logits, jax.jit(logits)))
    assert (eager.shape, traced.shape) == ((6, 3), (6, 5))
    np.testing.assert_allclose(traced[:, :3], eager, rtol=1e-4, atol=1e-4)
    assert (traced[:, [1, 3, 4]] < -1e8).all()
    assert np.isfinite(eager).all()
    assert (np.asarray(eager)[:, [0, 2]] > -1e3).all()


def test_under_support_norm_a_query_does_not_see_the_others(key):
    def apply(params, x, stats=None):
        z = x @ params["a"]
        stats = z.mean(0) if stats is None else stats
        return jnp.tanh(z - stats), stats

    e = episode(key)
    learner = r2d2(Model(smooth_net().init, apply))
    theta = learner.init(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    want = (e.support_x @ theta["net"]["a"]).mean(0)
    np.testing.assert_allclose(phi.stats, want, rtol=1e-5, atol=1e-6)
    together, apart = learner.predict(theta, phi, e.query_x)[:2], learner.predict(theta, phi, e.query_x[:2])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-5)


def test_float_targets_are_regressed_as_they_are(key):
    with jax.enable_x64(True):
        x = jnp.linspace(-2, 2, 7, dtype=jnp.float64)[:, None]
        e = Episode(x, 3 + jnp.sin(x), x + 0.1, 3 + jnp.sin(x + 0.1))
        net = smooth_net(12)
        learner = r2d2(net, init_lambda=1e-6)
        theta = learner.init(key, x)
        phi = learner.adapt(theta, e.support_x, e.support_y)
        np.testing.assert_allclose(learner.predict(theta, phi, x), e.support_y, atol=1e-2)
        assert learner.loss(theta, e)[1]["mse"] < 1e-2
        with pytest.raises(ValueError, match="logistic head wants labels"):
            r2d2(net, "logistic").loss(theta, e)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "svm"}, "unknown head"),
        ({"form": "dual"}, "unknown form"),
        ({"newton_steps": 0}, "newton_steps must be at least 1"),
        ({"init_lambda": 0.0}, "must be above 0"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        r2d2(smooth_net(), **settings)
