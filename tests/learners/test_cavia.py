"""CAVIA: the context is an input that every example of a task shares, and the meta-gradient passes through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, models
from mtl_jax.learners.cavia import cavia


def episode(key, n=6):
    x = jax.random.normal(key, (2 * n, 3))
    y = jnp.sin(x.sum(1, keepdims=True))
    return Episode(x[:n], y[:n], x[n:], y[n:])


def test_on_a_plain_layer_it_is_the_context_concatenated_to_the_inputs(key):
    """One inner step, by hand, on a network whose first layer sees [x, c]."""
    learner, e = cavia(models.mlp(1, (7,)), 0.3, 1, context=4, layer="dense0"), episode(key)
    theta = learner.init(key, e.support_x)
    first, head = theta["net"]["dense0"], theta["net"]["head"]
    kernel = jnp.concatenate((first["kernel"], theta["context"]["shift"]["dense0"]["bias"]))  # [3 + 4, 7]

    def outputs(c, x):
        seen = jnp.concatenate((x, jnp.broadcast_to(c, (len(x), 4))), 1)
        return jax.nn.relu(seen @ kernel + first["bias"]) @ head["kernel"] + head["bias"]

    c = -0.3 * jax.grad(lambda c: jnp.square(outputs(c, e.support_x) - e.support_y).mean())(jnp.zeros(4))
    assert float(jnp.abs(c).max()) > 1e-3
    phi = learner.adapt(theta, e.support_x, e.support_y)
    np.testing.assert_allclose(learner.predict(theta, phi, e.query_x), outputs(c, e.query_x), rtol=2e-5, atol=1e-6)


def test_the_meta_gradient_is_that_of_finite_differences(key):
    with jax.enable_x64(True):
        learner = cavia(models.mlp(1, (5,)), 0.2, 3, context=3)
        e = jax.tree.map(lambda a: a.astype(jnp.float64), episode(key))
        theta = learner.init(key, e.support_x)
        grads = jax.grad(lambda t: learner.loss(t, e)[0])(theta)
        direction = jax.tree.map(lambda a: jax.random.normal(key, a.shape, a.dtype), theta)
        ahead, behind = (
            learner.loss(jax.tree.map(lambda a, d, s=s: a + s * 1e-6 * d, theta, direction), e)[0] for s in (1, -1)
        )
        slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True))
        assert float(slope) == pytest.approx(float((ahead - behind) / 2e-6), rel=1e-6)


def test_on_images_it_modulates_scales_and_shifts_and_leaves_the_head(key):
    learner = cavia(models.conv4(3, 4), 1.0, 2, context=5)
    x = jax.random.uniform(key, (3, 16, 16, 1))
    theta = learner.init(key, x)
    assert set(theta["context"]) == {"scale", "shift"}
    assert all(w.shape[0] == 5 for w in jax.tree.leaves(theta["context"]))
    phi = learner.adapt(theta, x, jnp.arange(3))
    jax.tree.map(np.testing.assert_array_equal, phi.params["head"], theta["net"]["head"])
    moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (phi.params, theta["net"])), strict=True)]
    assert sum(moved) == len(jax.tree.leaves(theta["context"]))


def test_what_it_cannot_do_is_refused(key):
    with pytest.raises(ValueError, match="context must be at least 1, not 0"):
        cavia(models.mlp(1), context=0)
    with pytest.raises(ValueError, match="finds no scale and no bias in dense9: its layers are dense0, dense1"):
        cavia(models.mlp(1), layer="dense9").init(key, jnp.ones((1, 3)))
