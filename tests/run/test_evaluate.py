"""What evaluate says of episodes: their classes, their probabilities, and those that are not finite."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, Learner, evaluate, learners, models, sample_episode, train
from mtl_jax.run.evaluate import BINS


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 150, (60, 4, 4, 1), np.uint8) + 17 * np.repeat(np.arange(6), 10)[:, None, None, None]
    return ClassPool.from_arrays(x.astype(np.uint8), np.repeat(np.arange(6), 10))


SIZE = {"ways": 3, "shots": 2, "queries": 4}


def by_hand(learner, theta, pool, key, episodes):
    """(accuracies, per class, calibration error, -log p, confusion) by plain loops."""
    right, asked, scores, sure, hit, losses, confusion = np.zeros(6), np.zeros(6), [], [], [], [], np.zeros((6, 6), int)
    for k in jax.random.split(key, episodes):
        e = sample_episode(k, pool, **SIZE)
        logits = np.asarray(learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.query_x))
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        ok = logits.argmax(1) == np.asarray(e.query_y)
        losses += (-np.log(p[np.arange(len(p)), np.asarray(e.query_y)])).tolist()
        for row, y in zip(logits, e.query_y, strict=True):
            confusion[e.classes[y], e.classes[row.argmax()]] += 1
        scores.append(ok.mean())
        np.add.at(right, np.asarray(e.classes)[np.asarray(e.query_y)], ok)
        np.add.at(asked, np.asarray(e.classes)[np.asarray(e.query_y)], 1)
        sure += p.max(1).tolist()
        hit += ok.tolist()
    place, sure, hit = np.minimum((np.array(sure) * BINS).astype(int), BINS - 1), np.array(sure), np.array(hit)
    gaps = [abs(sure[place == b].mean() - hit[place == b].mean()) * (place == b).mean() for b in set(place)]
    return np.array(scores), right / asked, sum(gaps), np.mean(losses), confusion


def test_classes_and_calibration_are_those_of_plain_loops(pool, key):
    learner = learners.protonet(models.mlp(None, (4,)))
    theta = learner.init(key, jnp.zeros((1, 4, 4, 1)))
    seen = evaluate(learner, theta, pool, key, episodes=20, **SIZE)
    scores, per_class, ece, nll, confusion = by_hand(learner, theta, pool, key, 20)
    np.testing.assert_allclose(seen.per_episode, scores, atol=1e-6)
    np.testing.assert_allclose(seen.per_class, per_class, atol=1e-6)
    assert seen.ece == pytest.approx(ece, abs=1e-5)
    assert seen.nll == pytest.approx(nll, rel=1e-5)
    np.testing.assert_array_equal(seen.confusion, confusion)
    assert seen.not_finite == 0


def test_a_dead_network_is_not_scored_as_chance(pool, key, caplog):
    learner = learners.protonet(models.mlp(None, (4,)))
    theta = learner.init(key, jnp.zeros((1, 4, 4, 1)))
    dead = jax.tree.map(lambda a: a * jnp.nan, theta)
    with caplog.at_level(logging.WARNING):
        seen = evaluate(learner, dead, pool, key, episodes=5, **SIZE)
    assert np.isnan(seen.accuracy)
    assert np.isnan(seen.per_episode).all()
    assert seen.not_finite == 5
    assert "5 of 5 episodes have outputs that are not finite" in caplog.text


@pytest.mark.parametrize("make", [learners.maml, learners.reptile, learners.anil, learners.lstm])
def test_ways_that_the_network_does_not_have_are_refused_with_both_numbers(pool, key, make):
    learner = make(models.mlp(2, (4,)))
    theta = learner.init(key, jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="gives 2 outputs, and the task has 3 ways"):
        evaluate(learner, theta, pool, key, episodes=2, **SIZE)
    with pytest.raises(ValueError, match="gives 2 outputs, and the task has 3 ways"):
        train(learner, pool, key, tasks=1, steps=1, **SIZE)


def test_ways_that_a_metric_learner_was_not_built_for_are_refused(pool, key):
    learner = learners.protonet(models.mlp(None, (4,)), ways=5)
    theta = learner.init(key, jnp.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"5 .*3|3 .*5"):
        evaluate(learner, theta, pool, key, episodes=2, **SIZE)
    with pytest.raises(ValueError, match="built for 5 ways, and the task has 3"):
        train(learner, pool, key, tasks=1, steps=1, **SIZE)


def test_episodes_that_diverge_are_counted_and_make_the_mean_nan(pool, key):
    """A learner whose outputs overflow where the first class is even."""
    good = learners.protonet(models.mlp(None, (4,)))

    def adapt(theta, x, y):
        return good.adapt(theta, x, y), jnp.where(x.mean() > 0.45, jnp.inf, 1.0)

    half = Learner(good.init, adapt, lambda theta, phi, x: good.predict(theta, phi[0], x) * phi[1], good.loss)
    theta = good.init(key, jnp.zeros((1, 4, 4, 1)))
    seen, plain = (evaluate(each, theta, pool, key, episodes=40, **SIZE) for each in (half, good))
    bad = np.isnan(seen.per_episode)
    assert 0 < bad.sum() == seen.not_finite < 40
    np.testing.assert_array_equal(seen.per_episode[~bad], plain.per_episode[~bad])
    assert np.isnan(seen.accuracy)


def test_validation_never_takes_a_dead_network_for_the_best(pool, key, tmp_path, caplog):
    """theta turns NaN in predict alone, after the first validation: the first stays the best, in memory and on disk."""
    good = learners.protonet(models.mlp(None, (4,)))

    def predict(theta, phi, x):
        return good.predict(theta, phi, x) + jnp.where(theta["dies"] > 1.5, jnp.nan, 0.0)

    def loss(theta, episode):
        value, metrics = good.loss(theta["net"], episode)
        return value - theta["dies"], metrics  # grows by 1 a step

    learner = Learner(
        lambda key, x: {"net": good.init(key, x), "dies": jnp.zeros(())},
        lambda theta, x, y: good.adapt(theta["net"], x, y),
        lambda theta, phi, x: predict({"dies": theta["dies"]} | theta["net"], phi, x),
        loss,
    )
    with caplog.at_level(logging.WARNING):
        run = train(
            learner, pool, key, steps=4, tasks=1, optimizer=optax.sgd(1.0), val_pool=pool, val_every=1, val_episodes=4,
            out=tmp_path, ways=3, shots=2, queries=4,
        )  # fmt: skip
    assert float(run.theta["dies"]) == 1.0
    assert np.isfinite(run.score)
    assert np.isnan(run.history[-1]["val_accuracy"])
    assert "validation score is not finite" in caplog.text
    assert (tmp_path / "checkpoints" / "1").is_dir()
