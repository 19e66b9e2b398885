"""loss= of the methods that descend one: the usual one by hand changes nothing; one without slope adapts nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, learners, models

METHODS = {
    "boil": {}, "meta_sgd": {}, "cavia": {"context": 4}, "imaml": {}, "mamlpp": {}, "reptile": {}, "lstm": {},
    "maml": {}, "fomaml": {}, "anil": {}, "mtl": {"transfer": "none", "test_steps": 2},
}  # fmt: skip


def usual(outputs, y):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


def nothing(outputs, y):
    return 0.0 * outputs.sum()


def task(key):
    one, two = jax.random.split(key)
    y = jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2)
    return Episode(jax.random.normal(one, (6, 5)), y, jax.random.normal(two, (6, 5)), y)


def build(name, loss):
    return getattr(learners, name)(models.mlp(3, (8,)), inner_steps=2, **METHODS[name], loss=loss)


@pytest.mark.parametrize("name", METHODS)
def test_the_usual_loss_given_by_hand_is_the_default(name, key):
    e, plain, own = task(key), build(name, None), build(name, usual)
    theta = plain.init(key, e.support_x)

    def seen(learner):
        value, slope = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))(theta, e)
        return value, slope, learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.query_x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), seen(own), seen(plain))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "lstm"])  # whose gates move without a slope
def test_a_loss_without_slope_adapts_nothing(name, key):
    e, own = task(key), build(name, nothing)
    theta = own.init(key, e.support_x)
    net = models.mlp(3, (8,))
    before = build(name, None)
    phi = own.adapt(theta, e.support_x, e.support_y)
    moved = before.adapt(theta, e.support_x, e.support_y)
    still, adapted = (own.predict(theta, p, e.query_x) for p in (phi, moved))
    assert not np.allclose(still, adapted)
    if name != "cavia":  # whose network has a context of its own
        params = {**theta["frozen"], "head": theta["head"]} if name == "mtl" else theta.get("net", theta)
        np.testing.assert_allclose(still, net.apply(params, e.query_x)[0], rtol=1e-5, atol=1e-6)
