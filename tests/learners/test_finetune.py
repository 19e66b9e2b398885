"""Transfer learning: the pre-training loss, the new heads, and both by way of the ordinary trainer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, Episode, Model, models, train
from mtl_jax.data import sources
from mtl_jax.data.batches import batch_classes
from mtl_jax.learners.finetune import baseline_pp, finetune

CLASSES = 11


def net():
    return models.mlp(None, (8,))


def episode(key, classes=(9, 4, 7), shots=2, queries=3):
    """Images of each class around a point of its own."""
    ways = len(classes)
    y, q = (jnp.repeat(jnp.arange(ways, dtype=jnp.int32), n) for n in (shots, queries))
    keys = jax.random.split(key, 3)
    centres = 2.0 * jax.random.normal(keys[0], (ways, 6))
    x = centres[y] + 0.3 * jax.random.normal(keys[1], (len(y), 6))
    return Episode(x, y, centres[q] + 0.3 * jax.random.normal(keys[2], (len(q), 6)), q, jnp.array(classes, jnp.int32))


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def cross_entropy(logits, y, smoothing):
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * np.eye(logits.shape[1])[y] + smoothing / logits.shape[1]
    return -(target * logp).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_loss_is_classification_among_all_source_classes(key, name, smoothing):
    e = episode(key)
    factory = partial(baseline_pp, scale=3.0) if name == "cosine" else finetune
    learner = factory(net(), CLASSES, label_smoothing=smoothing)
    theta = learner.init(key, e.support_x)
    theta["classes"]["kernel"] = kernel = jax.random.normal(key, (8, CLASSES))
    z = np.asarray(net().apply(theta["net"], e.query_x)[0])
    if name == "cosine":
        assert set(theta["classes"]) == {"kernel"}
        logits = 3.0 * unit(z) @ unit(np.asarray(kernel).T).T
    else:
        theta["classes"]["bias"] = bias = jnp.linspace(0.0, 2.0, CLASSES)
        logits = z @ np.asarray(kernel) + np.asarray(bias)
    y = np.repeat([9, 4, 7], 3)
    for task in (e, e._replace(query_y=jnp.asarray(y, jnp.int32), classes=None)):
        loss, metrics = learner.loss(theta, task)
        np.testing.assert_allclose(loss, cross_entropy(logits, y, smoothing), rtol=1e-5)
        np.testing.assert_allclose(metrics["accuracy"], (logits.argmax(1) == y).mean())


def test_the_cosine_scale_follows_the_number_of_classes(key):
    e = episode(key)
    spread = {}
    for classes in (200, 201):
        learner = baseline_pp(net(), classes)
        theta = learner.init(key, e.support_x)
        row = net().apply(theta["net"], e.query_x[:1])[0]
        theta["classes"]["kernel"] = jnp.tile(row.T, (1, classes)).at[:, 9].set(-row[0])  # cosines of 1, but -1 at 9
        spread[classes] = float(learner.loss(theta, e._replace(query_x=e.query_x[:1], query_y=e.query_y[:1]))[0])
    np.testing.assert_allclose(spread[200], np.log(199 + np.exp(-4.0)) + 4, rtol=1e-5)
    np.testing.assert_allclose(spread[201], np.log(200 + np.exp(-20.0)) + 20, rtol=1e-5)


@pytest.mark.parametrize("factory", [finetune, baseline_pp])
def test_more_steps_lower_the_support_loss_until_the_classes_are_apart(key, factory):
    e = episode(key)
    theta = factory(net(), CLASSES).init(key, e.support_x)
    losses = []
    for steps in (1, 10, 100):
        learner = factory(net(), CLASSES, inner_lr=0.05, inner_steps=steps)
        logits = learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.support_x)
        losses.append(optax.softmax_cross_entropy_with_integer_labels(logits, e.support_y).mean())
    assert losses[0] > losses[1] > losses[2]
    np.testing.assert_array_equal(logits.argmax(1), e.support_y)


def test_the_linear_head_is_momentum_descent_from_zeros_on_fixed_features(key):
    e = episode(key)
    learner = finetune(net(), CLASSES, 0.1, 3)
    theta = learner.init(key, e.support_x)
    z = np.asarray(net().apply(theta["net"], e.support_x)[0], np.float64)
    y = np.eye(3)[np.asarray(e.support_y)]
    w, b, vw, vb = np.zeros((8, 3)), np.zeros(3), 0.0, 0.0
    for _ in range(3):
        p = np.exp(z @ w + b)
        g = (p / p.sum(1, keepdims=True) - y) / len(y)
        vw, vb = 0.9 * vw + z.T @ g, 0.9 * vb + g.sum(0)
        w, b = w - 0.1 * vw, b - 0.1 * vb
    head = learner.adapt(theta, e.support_x, e.support_y).head
    np.testing.assert_allclose(head["kernel"], w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head["bias"], b, rtol=1e-4, atol=1e-5)


def test_centroids_are_numpys_and_the_nearest_direction_wins(key):
    e = episode(key)
    learner = finetune(net(), CLASSES, head="centroid")
    theta = learner.init(key, e.support_x)
    z, q = (np.asarray(net().apply(theta["net"], x)[0]) for x in (e.support_x, e.query_x))
    centres = np.stack([z[np.asarray(e.support_y) == k].mean(0) for k in range(3)])
    phi = learner.adapt(theta, e.support_x, e.support_y)
    np.testing.assert_allclose(phi.head["kernel"], centres.T, rtol=1e-5)
    got = learner.predict(theta, phi, e.query_x)
    cosines = unit(q) @ unit(centres).T
    np.testing.assert_allclose(got / got.max(), cosines / cosines.max(), rtol=1e-4)


@pytest.mark.parametrize(
    "make", [finetune, baseline_pp, partial(finetune, head="centroid")], ids=["linear", "cosine", "centroid"]
)
def test_no_gradient_passes_through_adapt_and_absent_classes_stay_empty(key, make):
    e = episode(key)
    learner = make(net(), CLASSES, inner_steps=4)
    theta = learner.init(key, e.support_x)
    labels = jnp.where(e.support_y == 1, 0, e.support_y)

    def logits(theta, source, x, y):
        return learner.predict(theta, learner.adapt(source, x, y), e.query_x)

    through = jax.grad(lambda s: logits(theta, s, e.support_x, labels)[:, 0].sum())(theta)
    assert all((g == 0).all() for g in jax.tree.leaves(through))
    eager, traced = (f(theta, theta, e.support_x, labels) for f in (logits, jax.jit(logits)))
    np.testing.assert_allclose(traced[:, :3], eager, rtol=1e-4, atol=1e-5)
    assert (traced.shape[1], eager.shape[1]) == (6, 3)
    assert (traced[:, [1, 3, 4, 5]] == jnp.finfo(jnp.float32).min).all()


def test_under_support_norm_a_query_does_not_see_the_others(key):
    def apply(params, x, stats=None):
        stats = x.mean(0) if stats is None else stats
        return jnp.tanh((x - stats) @ params["a"]), stats

    e = episode(key)
    learner = finetune(Model(lambda key, x: {"a": jnp.eye(6)}, apply), CLASSES, inner_steps=3)
    theta = learner.init(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    together, apart = learner.predict(theta, phi, e.query_x)[:2], learner.predict(theta, phi, e.query_x[:2])
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    np.testing.assert_allclose(phi.stats, e.support_x.mean(0), rtol=1e-6)


def test_pretraining_is_the_trainer_with_another_sampler(key):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 5)
    x = np.clip(rng.uniform(size=(6, 8, 8, 1))[y] + 0.1 * rng.normal(size=(30, 8, 8, 1)), 0, 1)
    pool = ClassPool.from_arrays(x, y)
    source = sources.class_batches(8, "rotations")
    learner = finetune(net(), batch_classes(pool, "rotations"), inner_lr=0.1, inner_steps=20)
    run = train(
        learner, pool, key, tasks=1, steps=3, source=source, log_every=1,
        val_pool=pool, val_size=(3, 1, 2), val_every=3, val_episodes=40,
    )  # fmt: skip
    assert [row["step"] for row in run.history] == [1, 2, 3]
    assert run.state.theta["classes"]["kernel"].shape == (8, 24)
    assert run.history[-1]["val_accuracy"] > 0.6  # of 3 ways
    assert run.score == run.history[-1]["val_accuracy"]


def test_labels_that_do_not_fit_are_refused_or_stop_the_run(key):
    e = episode(key)
    learner = finetune(net(), 8)
    theta = learner.init(key, e.support_x)
    with pytest.raises(ValueError, match="label 9 does not fit a head of 8 classes"):
        learner.loss(theta, e)
    with pytest.raises(ValueError, match="an episode of 3 ways does not fit a head of 2 classes"):
        jax.eval_shape(finetune(net(), 2).loss, theta, e)
    with pytest.raises(ValueError, match="integer labels"):
        learner.loss(theta, e._replace(query_y=jnp.zeros((9, 1))))
    assert jnp.isnan(jax.jit(learner.loss)(theta, e)[0])  # unseen while tracing: the trainer stops at it


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "svm"}, "unknown head"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        finetune(**{"net": net(), "classes": 5, **settings})


def test_a_bad_scale_is_refused():
    with pytest.raises(ValueError, match="scale must be above 0"):
        baseline_pp(net(), 5, scale=0.0)
