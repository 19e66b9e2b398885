"""The average of theta over the steps: the formula, and what a run validates, keeps and gives back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, evaluate, learners, models, train
from mtl_jax.run import checkpoint
from mtl_jax.run.average import averaged, result_theta
from mtl_jax.run.seeds import train_seeds

SIZES = {"ways": 3, "shots": 1, "queries": 3, "tasks": 2}


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    return ClassPool.from_arrays(rng.normal(size=(48, 5)).astype(np.float32), np.repeat(np.arange(6), 8))


@pytest.fixture(scope="module")
def learner():
    return learners.protonet(models.mlp(None, (4,)))


def test_it_is_the_sum_that_the_formula_says():
    rule = averaged(optax.sgd(0.5), 0.9)
    theta, expected = jnp.array([1.0, -2.0]), np.array([1.0, -2.0])
    state = rule.init(theta)
    for n in range(30):
        updates, state = rule.update(theta, state, theta)
        theta = optax.apply_updates(theta, updates)
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * np.asarray(theta)
    np.testing.assert_allclose(state.average, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"average must be above 0 and below 1, not 1\.0"):
        averaged(optax.sgd(0.5), 1.0)


def test_a_run_trains_as_without_and_validates_keeps_and_returns_the_average(pool, learner, key, tmp_path):
    go = {"optimizer": optax.sgd(0.1), "val_pool": pool, "val_every": 2, "val_episodes": 20, **SIZES}
    plain = train(learner, pool, key, steps=4, **go)
    run = train(learner, pool, key, steps=4, average=0.5, out=tmp_path / "run", **go)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), run.state.theta, plain.state.theta)
    mean = result_theta(run.state)
    assert (
        max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (mean, plain.theta)), strict=True)) > 1e-4
    )
    like = jax.eval_shape(learner.init, key, jnp.zeros((1, 5)))
    last = checkpoint.load_theta(tmp_path / "run" / "checkpoints", like, best=False)
    jax.tree.map(np.testing.assert_array_equal, last, mean)
    scored = evaluate(learner, mean, pool, jax.random.split(key, 3)[2], episodes=20, ways=3, shots=1, queries=3)
    assert run.history[-1]["val_accuracy"] == pytest.approx(scored.accuracy)
    longer = train(learner, pool, key, steps=6, average=0.5, out=tmp_path / "run", resume=True, **go)
    whole = train(learner, pool, key, steps=6, average=0.5, **go)
    jax.tree.map(np.testing.assert_array_equal, result_theta(longer.state), result_theta(whole.state))
    jax.tree.map(np.testing.assert_array_equal, longer.theta, whole.theta)


def test_seeds_at_once_keep_one_each(pool, learner):
    keys = jax.random.split(jax.random.key(3), 2)
    go = {"optimizer": optax.sgd(0.1), "steps": 3, "average": 0.5, **SIZES}
    for together, key in zip(train_seeds(learner, pool, keys, **go), keys, strict=True):
        alone = train(learner, pool, key, **go)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), together.theta, alone.theta)
