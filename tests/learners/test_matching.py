"""Matching networks against numpy, and full context embeddings against their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, Model
from mtl_jax.learners.matching import attention, matching


def episode(key, labels=(2, 0, 1, 0, 3, 2, 2), queries=6, dtype=jnp.float32, ways=4):
    k1, k2, k3 = jax.random.split(key, 3)
    x = [jax.random.normal(k, (n, 6), dtype) for k, n in ((k1, len(labels)), (k2, queries))]
    y = jax.random.randint(k3, (queries,), 0, ways)
    return Episode(x[0], jnp.array(labels, jnp.int32), x[1], y, jnp.arange(ways, dtype=jnp.int32))


def net():
    def init(key, x):
        return {"a": jax.random.normal(key, (x.shape[1], 5), x.dtype)}

    return Model(init, lambda params, x, stats=None: (jnp.tanh(x @ params["a"]), None))


def cosines(a, b):
    a, b = (np.asarray(v, np.float64) for v in (a, b))
    return a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


def answer(learner, theta, e):
    return learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.query_x)


def flipped(e, order):
    return e._replace(support_x=e.support_x[order], support_y=e.support_y[order])


def test_one_shot_is_the_cosine_nearest_neighbour(key):
    e = episode(key, (2, 0, 3, 1), queries=40)
    theta = net().init(key, e.support_x)
    near = cosines(net().apply(theta, e.query_x)[0], net().apply(theta, e.support_x)[0]).argmax(1)
    got = answer(matching(net()), theta, e).argmax(-1)
    np.testing.assert_array_equal(got, np.asarray(e.support_y)[near])
    assert len(set(got.tolist())) > 1


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_probabilities_of_many_shots_equal_numpy(key, temperature):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64)
        learner = matching(net(), temperature=temperature)
        theta = learner.init(key, e.support_x)
        z = [net().apply(theta, x)[0] for x in (e.query_x, e.support_x)]
        a = np.exp(temperature * cosines(*z))
        a /= a.sum(1, keepdims=True)
        np.testing.assert_allclose(attention(*z, temperature), a, rtol=1e-8)
        np.testing.assert_allclose(attention(*z, temperature).sum(1), 1.0, rtol=1e-12)
        p = np.stack([a[:, np.asarray(e.support_y) == k].sum(1) for k in range(4)], 1)
        logits = answer(learner, theta, e)
        np.testing.assert_allclose(jnp.exp(logits), p, rtol=1e-8)
        loss, _ = learner.loss(theta, e)
        np.testing.assert_allclose(loss, -np.log(p[np.arange(6), np.asarray(e.query_y)]).mean(), rtol=1e-8)


def test_order_of_the_support_set_matters_to_full_context_alone(key):
    e, order = episode(key), jnp.array([3, 6, 0, 2, 1, 5, 4])
    for full, same in ((False, True), (True, False)):
        learner = matching(net(), full)
        theta = learner.init(key, e.support_x)
        seen = answer(learner, theta, e), answer(learner, theta, flipped(e, order))
        assert np.allclose(*seen, rtol=1e-4, atol=1e-5) == same


def numpy_cell(params, c, h, x):
    i, f, g, o = np.split(params["kernel"] @ np.concatenate([x, h]) + params["bias"], 4)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def test_full_context_equals_the_equations(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64)
        learner = matching(net(), True, context_steps=3)
        theta = learner.init(key, e.support_x)
        fce = jax.tree.map(np.asarray, theta["fce"])
        z, q = (np.asarray(net().apply(theta["net"], x)[0]) for x in (e.support_x, e.query_x))
        support = z.copy()
        for name, rows in (("forward", range(7)), ("backward", range(6, -1, -1))):
            c = h = np.zeros(5)
            for i in rows:
                c, h = numpy_cell(fce[name], c, h, z[i])
                support[i] += h
        want = []
        for x in q:
            c = h = np.zeros(5)
            for _ in range(3):
                a = np.exp(support @ h)
                c, out = numpy_cell(fce["attention"], c, h, np.concatenate([x, a / a.sum() @ support]))
                h = out + x
            a = np.exp(10 * cosines(h[None], support)[0])
            want.append([a[np.asarray(e.support_y) == k].sum() / a.sum() for k in range(4)])
        np.testing.assert_allclose(jnp.exp(answer(learner, theta, e)), want, rtol=1e-7)


def test_full_context_gradients_are_finite_and_reach_all(key):
    es = jax.vmap(episode)(jax.random.split(key, 2))
    learner = matching(net(), full_context=True, context_steps=2)
    theta = learner.init(key, es.support_x[0])
    assert set(theta) == {"net", "fce"}
    assert set(theta["fce"]) == {"attention", "backward", "forward"}
    grads = jax.jit(jax.grad(lambda t: jax.vmap(learner.loss, (None, 0))(t, es)[0].mean()))(theta)
    for g in map(np.asarray, jax.tree.leaves(grads)):
        assert np.isfinite(g).all()
        assert g.any()


def test_traced_labels_give_the_same_answer_with_spare_slots(key):
    e, learner = episode(key, (2, 0, 0, 3, 3)), matching(net())  # nobody of class 1
    theta = learner.init(key, e.support_x)
    program = jax.jit(lambda e: answer(learner, theta, e), compiler_options={"xla_cpu_use_fusion_emitters": True})
    eager, traced = answer(learner, theta, e), program(e)
    assert traced.shape == (6, 5)
    np.testing.assert_allclose(traced[:, :4], eager, rtol=1e-5)
    assert (traced[:, [1, 4]] == jnp.finfo(jnp.float32).min).all()


def test_sure_answers_have_finite_losses(key):
    """A temperature at which the other classes' probabilities are 0 in float32."""
    e = episode(key)
    learner = matching(net(), temperature=1e4)
    theta = learner.init(key, e.support_x)
    (value, _), grads = jax.value_and_grad(learner.loss, has_aux=True)(theta, e)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"temperature": 0.0}, "temperature must be above 0"), ({"context_steps": 0}, "context_steps must be at least 1")],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        matching(net(), **settings)
