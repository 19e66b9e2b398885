"""Distillation: the loss of labels and of a teacher, its slopes and limits, and a network that learns another's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.special import log_softmax, softmax

from mtl_jax import Episode, models
from mtl_jax.learners import finetune, rfs
from mtl_jax.learners.distillation import Teacher, learn_from
from mtl_jax.types import Learner

CLASSES, N = 7, 5


@pytest.fixture
def pair(rng):
    """(own logits, the teacher's), float32 [5, 7]."""
    return [jnp.asarray(3.0 * rng.standard_normal((N, CLASSES)), jnp.float32) for _ in range(2)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def batch(rng, n=N):
    x = jnp.asarray(rng.standard_normal((n, 6)), jnp.float32)
    y = jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32)
    return Episode(x, y, x, y, None)


def divergence(known, own, heat):
    p = log_softmax(np.asarray(known, float) / heat, -1)
    q = log_softmax(np.asarray(own, float) / heat, -1)
    return (np.exp(p) * (p - q)).sum(-1).mean()


@pytest.mark.parametrize(("heat", "share"), [(4.0, 0.5), (1.0, 0.25), (2.0, 1.0)])
def test_the_loss_is_that_of_labels_and_the_divergence_from_the_teacher(pair, rng, heat, share):
    z, t = pair
    value = learn_from(Teacher(lambda x: t, heat, share), jnp.float32(1.5), z, rng.standard_normal((N, 2)))
    np.testing.assert_allclose(value, (1 - share) * 1.5 + share * heat**2 * divergence(t, z, heat), rtol=1e-5)


def test_its_slope_is_the_gap_between_the_softened_outputs(pair):
    z, t = pair
    loss = partial(learn_from, Teacher(lambda x: t, 4.0, 0.5), jnp.float32(0.0))
    want = 0.5 * 4.0 * (softmax(np.asarray(z) / 4.0, -1) - softmax(np.asarray(t) / 4.0, -1)) / N
    np.testing.assert_allclose(jax.grad(loss)(z, z), want, atol=1e-6)
    check_grads(lambda z: loss(z, z), (z,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_at_a_high_temperature_it_is_the_squared_distance_of_centred_logits(pair):
    z, t = (np.asarray(each, float) for each in pair)
    gap = (t - t.mean(-1, keepdims=True)) - (z - z.mean(-1, keepdims=True))
    value = learn_from(Teacher(lambda x: pair[1], 300.0, 1.0), jnp.float32(0.0), pair[0], pair[0])
    np.testing.assert_allclose(value, np.square(gap).sum(-1).mean() / (2 * CLASSES), rtol=0.03)


def test_no_gradient_reaches_the_teacher(pair):
    z, t = pair
    slope = jax.grad(lambda w: learn_from(Teacher(lambda x: w * t), jnp.float32(0.0), z, z))(2.0)
    assert slope == 0
    np.testing.assert_allclose(learn_from(Teacher(lambda x: z, share=1.0), jnp.float32(9.0), z, z), 0.0, atol=1e-6)


@pytest.mark.parametrize("factory", [finetune, rfs])
def test_a_pre_training_has_both_losses_and_is_itself_without_a_teacher(factory, key, rng):
    e, net = batch(rng), models.mlp(None, (8,))
    alone = factory(net, CLASSES, label_smoothing=0.1)
    theta = alone.init(key, e.query_x)
    t = jnp.asarray(rng.standard_normal((N, CLASSES)), jnp.float32)
    taught = factory(net, CLASSES, label_smoothing=0.1, teacher=Teacher(lambda x: t, 3.0, 0.4))
    jax.tree.map(np.testing.assert_array_equal, theta, taught.init(key, e.query_x))
    (first, metrics), (both, same) = alone.loss(theta, e), jax.jit(taught.loss)(theta, e)
    logits = net.apply(theta["net"], e.query_x)[0] @ theta["classes"]["kernel"] + theta["classes"]["bias"]
    np.testing.assert_allclose(both, 0.6 * first + 0.4 * 9.0 * divergence(t, logits, 3.0), rtol=1e-5)
    assert metrics.keys() == same.keys()
    np.testing.assert_allclose(same["accuracy"], metrics["accuracy"])
    phi, again = (of.adapt(theta, e.support_x, e.support_y) for of in (alone, taught))
    jax.tree.map(np.testing.assert_array_equal, phi, again)


def test_a_network_without_labels_becomes_its_teacher(key, rng):
    e, net = batch(rng, 40), models.mlp(None, (16,))
    known = finetune(net, CLASSES).init(jax.random.key(1), e.query_x)
    known["classes"]["kernel"] = jax.random.normal(key, known["classes"]["kernel"].shape)

    def logits(theta, x):
        return net.apply(theta["net"], x)[0] @ theta["classes"]["kernel"] + theta["classes"]["bias"]

    learner = finetune(net, CLASSES, teacher=Teacher(partial(logits, known), share=1.0))
    theta, rule = learner.init(key, e.query_x), optax.adam(0.01)
    before = learner.loss(theta, e)[0]

    @jax.jit
    def step(theta, state):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = rule.update(jax.grad(lambda t: learner.loss(t, e)[0])(theta), state)
        return optax.apply_updates(theta, updates), state

    state = rule.init(theta)
    for _ in range(500):
        theta, state = step(theta, state)
    assert learner.loss(theta, e)[0] < 0.01 * before
    same = logits(theta, e.query_x).argmax(-1) == logits(known, e.query_x).argmax(-1)
    assert same.mean() > 0.9


def test_wrong_teachers_are_refused_with_what_would_be_right(key, rng):
    e, net = batch(rng), models.mlp(None, (8,))
    for odd, said in (
        (Teacher(jnp.tanh, temperature=0.0), "temperature must be above 0, not 0.0"),
        (Teacher(jnp.tanh, share=1.5), r"share must be in \[0, 1\], not 1.5"),
        (Teacher(jnp.tanh, share=0.0), "leave the teacher out"),
    ):
        with pytest.raises(ValueError, match=said):
            finetune(net, CLASSES, teacher=odd)
    with pytest.raises(TypeError, match=r"must be a learners\.distillation\.Teacher.*not Learner"):
        rfs(net, CLASSES, teacher=Learner(None, None, None, None))
    learner = rfs(net, CLASSES, teacher=Teacher(lambda x: x))
    with pytest.raises(ValueError, match=r"gives outputs \[5, 6\], and the pre-training's are \[5, 7\]"):
        jax.eval_shape(learner.loss, learner.init(key, e.query_x), e)
