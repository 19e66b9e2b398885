"""Distances, cosines, attention and closed forms at sizes where a short-cut would lose its digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mtl_jax import Episode, Model, learners
from mtl_jax.learners.matching import log_shares
from mtl_jax.learners.protonet import class_means, cosine, squared_euclidean
from mtl_jax.learners.ridge import logistic, ridge
from mtl_jax.learners.softmax_regression import softmax_regression


def test_distances_far_from_the_origin_are_exact():
    x = jnp.array([[20000.0], [20001.0]])
    np.testing.assert_array_equal(squared_euclidean(x, x), [[0, 1], [1, 0]])
    means, present = class_means(x, jnp.array([0, 2], jnp.int32), 5)  # empty slots stay among the others
    np.testing.assert_array_equal(squared_euclidean(x, means)[:, [0, 2]], [[0, 1], [1, 0]])
    assert present.tolist() == [True, False, True, False, False]


def test_the_heads_start_of_proto_maml_is_exact_there_too(key):
    net = Model(lambda key, x: {"a": jnp.eye(1)}, lambda p, x, stats=None: (x @ p["a"], None))
    learner = learners.proto_maml(net, inner_lr=1e-12, inner_steps=1)
    x, y = jnp.array([[20000.0], [20001.0]]), jnp.arange(2, dtype=jnp.int32)
    theta = learner.init(key, x)
    logits = learner.predict(theta, learner.adapt(theta, x, y), x)
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], [1, -1], atol=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_distances_and_their_gradient_equal_numpys(key, size):
    x, c = (np.asarray(size * jax.random.normal(k, (n, 9)), np.float64) for k, n in ((key, 7), (jax.random.key(1), 4)))
    x, c = x + 30 * size, c + 30 * size
    x32, c32 = (jnp.asarray(v, jnp.float32) for v in (x, c))
    x, c = np.asarray(x32, np.float64), np.asarray(c32, np.float64)
    want = ((x[:, None] - c) ** 2).sum(-1)
    np.testing.assert_allclose(squared_euclidean(x32, c32), want, rtol=1e-5)
    gx, gc = jax.grad(lambda *a: squared_euclidean(*a)[0, 1] / size**2, (0, 1))(x32, c32)
    np.testing.assert_allclose(gx[0], 2 * (x[0] - c[1]) / size**2, rtol=1e-4, atol=1e-6 / size)
    np.testing.assert_allclose(gc[1], -gx[0], rtol=1e-5, atol=1e-6 / size)


@pytest.mark.parametrize("size", [1e-20, 1e-3, 1.0, 1e6, 1e25])
def test_cosines_do_not_depend_on_size_and_zeros_have_no_gradient(key, size):
    x, c = jax.random.normal(key, (5, 6)), jax.random.normal(jax.random.key(1), (3, 6))
    np.testing.assert_allclose(cosine(size * x, c), cosine(x, c), rtol=1e-5, atol=1e-6)
    zeros = jnp.zeros((2, 6))
    np.testing.assert_array_equal(cosine(zeros, c), 1.0)
    assert not jax.grad(lambda x: cosine(x, c).sum())(zeros).any()
    assert not jax.grad(lambda c: cosine(x, c).sum())(zeros).any()


def test_cosine_has_the_gradient_of_the_plain_form(key):
    with jax.enable_x64(True):
        x, c = jax.random.normal(key, (5, 6), jnp.float64), jax.random.normal(jax.random.key(1), (3, 6), jnp.float64)

        def plain(x, c):
            return 1 - x @ c.T / jnp.linalg.norm(x, axis=1)[:, None] / jnp.linalg.norm(c, axis=1)

        got, want = (jax.grad(lambda *a, f=f: jnp.sin(f(*a)).sum(), (0, 1))(x, c) for f in (cosine, plain))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), got, want)


@pytest.mark.parametrize("temperature", [1.0, 45.0, 500.0])
def test_attention_keeps_the_gradient_of_the_worst_query(key, temperature):
    """In float32 against float64, where no probability vanishes."""
    scores = jnp.array([[1.0, 0.99, -1.0], [-1.0, -0.9, 1.0]])
    labels = jnp.eye(2)[jnp.array([0, 0, 1])]

    def loss(scores):
        return -log_shares(temperature * scores, labels)[0, 1]

    value, slope = jax.value_and_grad(loss)(scores)
    with jax.enable_x64(True):
        t, s = temperature, np.asarray(scores, np.float64)[0]
        others = np.exp(t * (s[:2] - 1))
        want = np.log(others.sum() + np.exp(-2 * t)) + 2 * t
        np.testing.assert_allclose(value, want, rtol=1e-5)
        p = np.append(others, np.exp(-2 * t)) / (others.sum() + np.exp(-2 * t))
        np.testing.assert_allclose(slope[0], t * (p - np.array([0, 0, 1])), rtol=1e-4, atol=1e-6)


def test_a_high_temperature_trains_matching_networks(key):
    x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    y = jnp.arange(2, dtype=jnp.int32)
    net = Model(lambda key, x: {"a": jnp.eye(2)}, lambda p, x, stats=None: (x @ p["a"], None))
    learner = learners.matching(net, temperature=200.0)
    episode = Episode(x, y, x + 0.1, y[::-1], y)  # each query is certainly wrong
    slope = jax.grad(lambda t: learner.loss(t, episode)[0])(learner.init(key, x))["a"]
    assert np.isfinite(slope).all()
    assert jnp.abs(slope).max() > 10


@pytest.mark.parametrize("form", ["primal", "woodbury"])
@pytest.mark.parametrize(("n", "d"), [(6, 20), (20, 6)])
def test_ridge_of_features_near_ten_thousand(key, form, n, d):
    x = np.asarray(1e4 + jax.random.normal(key, (n, d)), np.float32)
    y = np.eye(3, dtype=np.float32)[np.arange(n) % 3]
    wide = np.column_stack([x, np.ones(n)]).astype(np.float64)
    want = np.linalg.solve(wide.T @ wide + np.eye(d + 1), wide.T @ y)
    got = ridge(jnp.asarray(wide, jnp.float32), jnp.asarray(y), jnp.float32(1), form)
    np.testing.assert_allclose(wide @ np.asarray(got, np.float64), wide @ want, atol=0.02)
    slope = jax.grad(lambda x: ridge(x, jnp.asarray(y), jnp.float32(1), form).sum())(jnp.asarray(wide, jnp.float32))
    assert np.isfinite(slope).all()
    assert np.isfinite(logistic(jnp.asarray(wide, jnp.float32), jnp.asarray(y), jnp.float32(1), 5, form)).all()


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (3, 20)])
def test_the_softmax_regression_is_scikit_learns(ways, shots):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(ways), shots)
    z = rng.normal(size=(ways, 64))[y] + rng.normal(size=(len(y), 64))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    w, b = softmax_regression(jnp.asarray(z, jnp.float32), jnp.eye(ways)[y], 100)
    want = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(z, y)
    np.testing.assert_allclose(w.T, want.coef_, atol=2e-4)
    np.testing.assert_allclose(b - b.mean(), want.intercept_ - want.intercept_.mean(), atol=2e-4)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_finetunes_logistic_head_sees_no_scale_and_no_absent_class(key, size):
    rng = np.random.default_rng(0)
    y = jnp.repeat(jnp.array([0, 2, 3], jnp.int32), 4)
    x = jnp.asarray(rng.normal(size=(4, 6))[np.asarray(y)] + 0.3 * rng.normal(size=(12, 6)), jnp.float32)
    net = Model(lambda key, x: {"a": jnp.eye(6)}, lambda p, x, stats=None: (x @ p["a"], None))
    learner = learners.finetune(net, 9, head="logistic")
    theta = learner.init(key, x)
    logits = learner.predict(theta, learner.adapt(theta, size * x, y), size * x)
    unit = np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)
    want = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(unit, y).predict_proba(unit)
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, [0, 2, 3]], want, atol=1e-3)
    assert not jax.nn.softmax(logits)[:, 1].any()
