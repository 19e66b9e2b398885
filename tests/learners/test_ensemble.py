"""An ensemble: equal members are one of them, and the common prediction is the mean of probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, learners, models
from mtl_jax.learners.ensemble import ensemble


@pytest.fixture
def task(key):
    x = jax.random.normal(key, (12, 5))
    y = jnp.arange(12) % 3
    return Episode(x[:6], y[:6], x[6:], y[6:])


def of_classes(name):
    return {
        "maml": learners.maml(models.mlp(3, (8,)), 0.1, 2),
        "protonet": learners.protonet(models.mlp(None, (8,))),
        "matching": learners.matching(models.mlp(None, (8,)), ways=3),
    }[name]


def predict(learner, theta, task):
    return learner.predict(theta, learner.adapt(theta, task.support_x, task.support_y), task.query_x)


@pytest.mark.parametrize("name", ["maml", "protonet", "matching"])
def test_its_probabilities_are_the_mean_of_its_members(name, task, key):
    learner = of_classes(name)
    together = ensemble(learner, members=3)
    theta = together.init(key, task.support_x)
    each = [predict(learner, jax.tree.map(lambda a, m=m: a[m], theta), task) for m in range(3)]
    mean = np.mean([jax.nn.softmax(outputs) for outputs in each], 0)
    assert np.ptp([jax.nn.softmax(outputs) for outputs in each], 0).max() > 1e-2  # they differ
    seen = predict(together, theta, task)
    np.testing.assert_allclose(jnp.exp(seen), mean, rtol=2e-5, atol=1e-6)
    loss, figures = together.loss(theta, task)
    np.testing.assert_allclose(loss, -np.log(mean[np.arange(6), task.query_y]).mean(), rtol=2e-5)
    np.testing.assert_allclose(figures["accuracy"], (mean.argmax(-1) == task.query_y).mean(), rtol=1e-6)


def test_equal_members_predict_as_one_of_them(task, key):
    learner = of_classes("maml")
    theta = learner.init(key, task.support_x)
    twice = jax.tree.map(lambda a: jnp.stack((a, a)), theta)
    seen = predict(ensemble(learner), twice, task)
    np.testing.assert_allclose(seen, jax.nn.log_softmax(predict(learner, theta, task)), rtol=1e-5, atol=1e-6)


def test_of_a_regression_it_is_the_mean_of_outputs(task, key):
    learner = learners.maml(models.mlp(2, (8,)), 0.1, 1)
    together = ensemble(learner, members=4)
    y = jnp.stack((jnp.sin(task.support_x[:, 0]), task.support_x[:, 1]), 1)
    theta = together.init(key, task.support_x)
    of_one = [jax.tree.map(lambda a, m=m: a[m], theta) for m in range(4)]
    each = [learner.predict(t, learner.adapt(t, task.support_x, y), task.query_x) for t in of_one]
    seen = together.predict(theta, together.adapt(theta, task.support_x, y), task.query_x)
    np.testing.assert_allclose(seen, np.mean(each, 0), rtol=2e-5, atol=1e-6)


def test_a_class_without_support_stays_out_and_finite(key):
    """Within a program the labels are not known, and matching has an output per support example."""
    learner = ensemble(learners.matching(models.mlp(None, (8,))), members=2)
    x, y = jax.random.normal(key, (6, 5)), jnp.asarray([0, 0, 1, 1, 2, 2])
    theta = learner.init(key, x)
    seen = jax.jit(lambda y: learner.predict(theta, learner.adapt(theta, x, y), x))(y)
    assert seen.shape == (6, 6)
    assert not jnp.isnan(seen).any()
    assert int(seen.argmax(-1).max()) <= 2


def test_no_members_are_refused():
    with pytest.raises(ValueError, match="members must be at least 1, not 0"):
        ensemble(of_classes("maml"), members=0)
