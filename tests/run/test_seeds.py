"""Runs trained together are the runs trained alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run.loop import NonFiniteError
from mtl_jax.run.seeds import train_seeds

SIZE = {
    "ways": 3,
    "shots": 1,
    "queries": 2,
    "tasks": 2,
    "optimizer": optax.sgd(0.1),
    "log_every": 1,
}  # Adam divides rounding by itself
VAL = {"val_every": 2, "val_episodes": 4, "val_size": (2, 1, 3)}


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.4, (48, 6, 6, 1)) + 0.1 * np.repeat(np.arange(6), 8)[:, None, None, None]
    return ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_seeds_together_are_seeds_in_a_row_and_leave_runs_to_go_on_with(tmp_path, pool):
    learner = learners.protonet(models.mlp(None, (8,)))
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    folders = [tmp_path / str(i) for i in range(3)]
    configs = [{"seed": i} for i in range(3)]
    seen = train_seeds(learner, pool, keys, steps=4, val_pool=pool, out=folders, configs=configs, **SIZE, **VAL)
    for i, run in enumerate(seen):
        alone = train(learner, pool, keys[i], steps=4, val_pool=pool, **SIZE, **VAL)
        close(run.state.theta, alone.state.theta)
        close(run.theta, alone.theta)
        assert run.score == pytest.approx(alone.score)
        assert [set(row) for row in run.history] == [set(row) for row in alone.history]
        np.testing.assert_allclose([r["loss"] for r in run.history], [r["loss"] for r in alone.history], rtol=1e-5)
        assert json.loads((folders[i] / "config.json").read_text()) == {"seed": i}
    assert len({float(run.state.theta["dense0"]["kernel"].sum()) for run in seen}) == 3
    on = train(learner, pool, keys[1], steps=6, out=folders[1], resume=True, **SIZE)
    assert int(on.state.step) == 6
    assert [row["step"] for row in on.history] == [1, 2, 3, 4, 5, 6]


def test_many_inner_rates_at_once_and_one_that_diverges(tmp_path, pool):
    def by_rate(rate):
        return learners.maml(models.mlp(3, (8,)), rate, 1)

    keys = jnp.stack([jax.random.key(0)] * 3)
    rates = jnp.array([0.1, 1.0, jnp.inf])
    folders = [tmp_path / str(i) for i in range(3)]
    slow, fast, none = train_seeds(by_rate, pool, keys, steps=3, values=rates, out=folders, **SIZE)
    for run, rate in ((slow, 0.1), (fast, 1.0)):
        close(run.state.theta, train(by_rate(rate), pool, keys[0], steps=3, **SIZE).state.theta)
    assert slow.history[-1]["loss"] != fast.history[-1]["loss"]
    assert (int(slow.state.step), int(none.state.step), none.history) == (3, 0, [])
    with pytest.raises(NonFiniteError, match="not finite at step 1; step 0 is kept"):
        train_seeds(by_rate, pool, keys[:1], steps=3, values=rates[2:], **SIZE)


def test_what_does_not_fit_is_refused(pool):
    learner = learners.protonet(models.mlp(None, (8,)))
    keys = jnp.stack([jax.random.key(0)] * 2)
    with pytest.raises(ValueError, match="3 values for 2 keys"):
        train_seeds(learner, pool, keys, values=jnp.ones(3))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        train_seeds(learner, pool, keys, **SIZE, steps=0)
    with pytest.raises(ValueError, match="7 ways from a pool of 6"):
        train_seeds(learner, pool, keys, ways=7)
