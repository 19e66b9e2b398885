"""The outer optimiser against the updates that its settings stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.run.optimizer import meta_optimizer, multiply_updates


def updates(rule, theta, grads, times=1):
    state = rule.init(theta)
    for _ in range(times):
        with jax.numpy_dtype_promotion("standard"):  # as the trainer calls it
            step, state = rule.update(grads, state, theta)
        yield step


THETA = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}
GRADS = {"a": jnp.array([0.5, 0.25]), "b": jnp.array([-1.0])}


def test_sgd_with_momentum_and_weight_decay_is_the_textbook_rule():
    rule = meta_optimizer(0.1, 8, "constant", "sgd", clip=None, weight_decay=0.01, momentum=0.9)
    first, second = updates(rule, THETA, GRADS, 2)
    decayed = GRADS["a"] + 0.01 * THETA["a"]
    np.testing.assert_allclose(first["a"], -0.1 * decayed, rtol=1e-6)
    np.testing.assert_allclose(second["a"], -0.1 * 1.9 * decayed, rtol=1e-6)


def test_the_step_schedule_takes_a_tenth_twice():
    sizes = [float(-u["b"][0] / GRADS["b"][0]) for u in updates(meta_optimizer(1.0, 8, "step", "sgd"), THETA, GRADS, 8)]
    np.testing.assert_allclose(sizes, [1] * 4 + [0.1] * 2 + [0.01] * 2, rtol=1e-5)


def test_parts_have_rates_of_their_own():
    plain, scaled = (meta_optimizer(1e-2, 8), multiply_updates(meta_optimizer(1e-2, 8), {"b": 0.1}))
    (want,), (got,) = updates(plain, THETA, GRADS), updates(scaled, THETA, GRADS)
    np.testing.assert_array_equal(got["a"], want["a"])
    np.testing.assert_allclose(got["b"], 0.1 * want["b"], rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"optimizer": "adam", "weight_decay": 0.1}, {"optimizer": "adamw", "momentum": 0.9}])
def test_a_setting_that_the_rule_has_no_place_for_is_refused(wrong):
    with pytest.raises(ValueError, match="takes no weight decay or no momentum"):
        meta_optimizer(1e-3, 8, **wrong)
