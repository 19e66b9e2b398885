"""P>M>F's fine-tuning against a ProtoNet, one step by hand, and its rate against every rate's held-out loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, Model, learners
from mtl_jax.data.augment import change_colours, translate
from mtl_jax.learners.pmf import last_of_classes

D, WAYS = 5, 3
Y = jnp.asarray([0, 0, 0, 1, 1, 2], jnp.int32)  # three, two and one


def matrix_net():
    """x times a matrix, which starts as the identity."""
    return Model(lambda key, x: {"a": jnp.eye(x.shape[1], dtype=x.dtype)}, lambda p, x, s=None: (x @ p["a"], None))


def task(seed=0):
    """Classes in four directions, and a fifth of noise alone, which tuning can learn to leave out."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(WAYS, D)) * (np.arange(D) < D - 1)
    spread = np.where(np.arange(D) < D - 1, 0.3, 3.0)
    draw = lambda y: jnp.asarray(centres[np.asarray(y)] + spread * rng.normal(size=(len(y), D)))  # noqa: E731
    query_y = jnp.arange(WAYS, dtype=jnp.int32)
    return Episode(draw(Y), Y, draw(query_y), query_y, query_y)


def unit(z):
    return z / jnp.linalg.norm(z, axis=1, keepdims=True)


def hand_loss(a, x, used, judged):
    """Mean -log softmax of 10 cos to the means of the examples used, over the examples judged."""
    z, judged = x @ a, np.asarray(judged)
    centres = jnp.stack([z[np.flatnonzero(used & (np.asarray(Y) == k))].mean(0) for k in range(WAYS)])
    return -jax.nn.log_softmax(10 * unit(z) @ unit(centres).T)[judged, np.asarray(Y)[judged]].mean()


def pmf(**settings):
    return learners.pmf(matrix_net(), inner_rule="sgd", pseudo_queries="none", **settings)


def test_at_rate_0_it_is_a_protonet_and_its_loss_always_is(key):
    with jax.enable_x64(True):
        e, theta = task(), {"a": jnp.eye(D)}
        still, proto = pmf(inner_lr=0.0, test_steps=3, rate_choices=0), learners.protonet(matrix_net(), "cosine")
        got, want = (of.predict(theta, of.adapt(theta, e.support_x, e.support_y), e.query_x) for of in (still, proto))
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(pmf().loss(theta, e)[0], proto.loss(theta, e)[0])


def test_one_step_is_the_gradient_step_by_hand():
    with jax.enable_x64(True):
        e, a, every = task(), jnp.eye(D), np.ones(6, bool)
        phi = pmf(inner_lr=0.1, test_steps=1, rate_choices=0).adapt({"a": a}, e.support_x, e.support_y)
        want = a - 0.1 * jax.grad(hand_loss)(a, e.support_x, every, np.arange(6))
        np.testing.assert_allclose(phi.params["a"], want, rtol=1e-10)
        np.testing.assert_allclose(phi.centres[1], (e.support_x @ want)[3:5].mean(0), rtol=1e-10)
        assert (phi.rate, phi.losses.shape) == (0.1, (0,))


@pytest.mark.parametrize(("seed", "chosen"), [(1, 10.0), (2, 1.0), (3, 0.0), (4, 0.1)])
def test_the_rate_is_the_one_of_the_least_held_out_loss(seed, chosen):
    with jax.enable_x64(True):
        e, a = task(seed), jnp.eye(D)
        phi = pmf(inner_lr=10.0, test_steps=1, rate_choices=3).adapt({"a": a}, e.support_x, e.support_y)
        used, judged = np.array([1, 1, 0, 1, 0, 1], bool), np.array([2, 4, 5])
        slope = jax.grad(hand_loss)(a, e.support_x, used, np.flatnonzero(used))
        tried = [0.0, 10.0, 1.0, 0.1]
        losses = [hand_loss(a - rate * slope, e.support_x, used, judged) for rate in tried]
        np.testing.assert_allclose(phi.losses, losses, rtol=1e-9)
        np.testing.assert_allclose(phi.rate, tried[int(np.argmin(losses))], rtol=1e-12)
        np.testing.assert_allclose(phi.rate, chosen, rtol=1e-12)  # each of them in some task: it is a choice


def test_the_last_of_each_class_is_held_out_unless_it_is_alone():
    last, held = last_of_classes(jnp.asarray([2, 0, 0, 1, 2, 0]))
    np.testing.assert_array_equal(last, [False, False, False, True, True, True])
    np.testing.assert_array_equal(held, [False, False, False, False, True, True])


def test_vectors_are_refused_where_copies_are_moved():
    e = task()
    with pytest.raises(ValueError, match="pseudo_queries='none'"):
        learners.pmf(matrix_net()).adapt({"a": jnp.eye(D)}, e.support_x, e.support_y)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": -1.0}, "inner_lr must be at least 0"),
        ({"rate_choices": -1}, "rate_choices must be at least 0"),
        ({"test_steps": 0}, "at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        pmf(**settings)


def test_moved_images_are_the_images_elsewhere(key):
    x = jnp.pad(jax.random.uniform(key, (40, 8, 16, 2)), ((0, 0), (2, 2), (3, 3), (0, 0)))  # the move loses only zeros
    moved = translate(key, x)
    places = set()
    for image, start in zip(np.asarray(moved), np.asarray(x), strict=True):
        down, right = (int(np.flatnonzero(image.any((1 - a, 2)))[0]) - (2, 3)[a] for a in (0, 1))
        np.testing.assert_array_equal(np.roll(start, (down, right), (0, 1)), image)
        places.add((down, right))
    assert {abs(down) for down, _ in places} <= {0, 1, 2}  # an eighth of 12 and of 22 sides, rounded
    assert max(abs(right) for _, right in places) == 3
    assert len(places) > 10


def test_new_colours_move_brightness_contrast_and_saturation_alone(key):
    x = jax.random.uniform(key, (50, 4, 4, 3))
    new = change_colours(key, x)
    shift = (new - x).mean((1, 2, 3))
    assert -0.5 <= shift.min() < -0.3
    assert 0.3 < shift.max() <= 0.5
    grey, old_grey = (v.mean(-1) - v.mean((1, 2, 3))[:, None, None] for v in (new, x))
    contrast = (grey * old_grey).sum((1, 2)) / (old_grey**2).sum((1, 2))
    np.testing.assert_allclose(grey, contrast[:, None, None] * old_grey, atol=1e-5)
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5
    assert float(jnp.abs(change_colours(key, jnp.ones((3, 4, 4, 1))).std((1, 2))).max()) < 1e-6  # grey stays grey
