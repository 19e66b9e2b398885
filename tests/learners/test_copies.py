"""Copies at test: what a learner is given to adapt to, and how the predictions of copies are put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crops import windows_of

from mtl_jax import Episode, Learner, learners, models
from mtl_jax.data.augment import distort, flip_crop
from mtl_jax.learners.copies import with_copies

SIDE = 6


@pytest.fixture
def task(key):
    x = jax.random.uniform(key, (12, SIDE, SIDE, 1))
    y = jnp.arange(12) % 3
    return Episode(x[:6], y[:6], x[6:], y[6:])


def keeps(theta, x, y):
    return x, y


def linear(theta, phi, x):
    return x.reshape(len(x), -1) @ theta


@pytest.fixture
def seen():
    """A learner whose phi is what it was given, and whose outputs are linear in an image."""
    return Learner(lambda key, x: jax.random.normal(key, (SIDE * SIDE, 3)), keeps, linear, None)


def test_it_adapts_to_the_images_and_to_crops_of_them_under_their_labels(task, seen):
    x, y = with_copies(seen, "flip_crop", 5).adapt(None, task.support_x, task.support_y)
    assert x.shape == (36, SIDE, SIDE, 1)
    np.testing.assert_array_equal(x[:6], task.support_x)
    np.testing.assert_array_equal(y, np.tile(task.support_y, 6))
    copies = np.asarray(x[6:]).reshape(5, 6, SIDE, SIDE, 1)
    for place, image in enumerate(np.asarray(task.support_x)):
        windows = windows_of(image)
        drawn = [copy.tobytes() for copy in copies[:, place]]
        assert all(copy in windows for copy in drawn)
        assert len(set(drawn)) > 1  # a draw of its own for each


def test_an_affine_copy_is_the_image_under_the_map_of_training(task, seen):
    x, _ = with_copies(seen, "affine", 2).adapt(None, task.support_x, task.support_y)
    keys = jax.random.split(jax.random.key(0), (2, 6))
    expected = [distort(keys[j, i], task.support_x[i]) for j in range(2) for i in range(6)]
    np.testing.assert_allclose(x[6:], jnp.stack(expected), rtol=1e-5, atol=1e-6)
    constant = jnp.full((4, SIDE, SIDE, 1), 0.25)
    x, _ = with_copies(seen, "affine", 3).adapt(None, constant, jnp.arange(4))
    np.testing.assert_allclose(x, 0.25, rtol=1e-6)  # the edge goes on outwards


def test_probabilities_are_the_mean_over_a_query_and_its_copies(task, seen, key):
    learner = with_copies(seen, "flip_crop", 0, 3)
    theta = learner.init(key, task.support_x)
    x, _ = phi = learner.adapt(theta, task.support_x, task.support_y)
    np.testing.assert_array_equal(x, task.support_x)  # none of the support set
    keys = jax.random.split(jax.random.key(1), (3, 6))
    sets = [task.query_x, *(jax.vmap(flip_crop)(k, task.query_x) for k in keys)]
    mean = np.mean([jax.nn.softmax(linear(theta, None, x)) for x in sets], 0)
    outputs = learner.predict(theta, phi, task.query_x)
    np.testing.assert_allclose(jnp.exp(outputs), mean, rtol=1e-5)
    loss, figures = learner.loss(theta, task)
    np.testing.assert_allclose(loss, -np.log(mean[np.arange(6), task.query_y]).mean(), rtol=1e-5)
    np.testing.assert_allclose(figures["accuracy"], (mean.argmax(-1) == task.query_y).mean())


def test_copies_that_equal_their_images_change_no_prediction(key):
    """Of constant images, which no affine map changes: means and probabilities stay as they are."""
    x = jnp.linspace(0.1, 0.9, 6).reshape(6, 1, 1, 1) * jnp.ones((6, SIDE, SIDE, 1))
    y = jnp.arange(6) % 3
    plain = learners.protonet(models.mlp(None, (8,)))
    theta = plain.init(key, x)
    expected = jax.nn.log_softmax(plain.predict(theta, plain.adapt(theta, x, y), x))
    more = with_copies(plain, "affine", 2, 2)
    found = more.predict(theta, more.adapt(theta, x, y), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["anil", "matching", "relation", "r2d2", "rfs"])
def test_methods_take_more_support_than_they_were_given(name, key):
    ways = 3 if name == "anil" else None
    made = {"classes": 4} if name == "rfs" else {"ways": 3} if name == "matching" else {}
    net = models.conv4(ways, 4, maps=True) if name == "relation" else models.conv4(ways, 4)
    learner = with_copies(getattr(learners, name)(net, **made), "flip_crop", 2, 1)
    x, y = jax.random.uniform(key, (6, 16, 16, 1)), jnp.arange(6) % 3
    theta = learner.init(key, x)
    both = jax.vmap(lambda x: learner.predict(theta, learner.adapt(theta, x, y), x))(jnp.stack((x, x[::-1])))
    assert both.shape[:2] == (2, 6)
    np.testing.assert_allclose(jnp.exp(both).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [(("turned", 1, 0), "unknown vary 'turned': choose one of flip_crop, affine"),
     (("affine", -1, 0), "support_copies must be at least 0, not -1"),
     (("affine", 0, 0), "change nothing")],
)  # fmt: skip
def test_wrong_copies_are_refused(given, said, seen):
    with pytest.raises(ValueError, match=said):
        with_copies(seen, *given)


@pytest.mark.parametrize("x", [jnp.zeros((4, 7)), jnp.zeros((4, 6, 6, 2)), jnp.zeros((4, 6, 6, 1), jnp.int32)])
def test_other_inputs_than_images_are_refused_with_their_shape(x, seen):
    with pytest.raises(ValueError, match=r"copies are of images \[n, height, width, 1 or 3\] of floats, not .*\[4"):
        jax.eval_shape(with_copies(seen, "flip_crop").adapt, None, x, jnp.arange(4))


def test_a_regression_is_refused(task, seen):
    with pytest.raises(ValueError, match="integer labels"):
        with_copies(seen, "affine").adapt(None, task.support_x, jnp.zeros((6, 2)))
