"""RegressionPool: its tasks, training and scores of them, and losses that a user gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import linear_model, metrics

from mtl_jax import RegressionPool, evaluate, learners, models, train
from mtl_jax.data import sources
from mtl_jax.data.regression import sample_regression
from mtl_jax.learners.objective import objective
from mtl_jax.types import Learner

SIZES = (7, 9, 12)


def table(noise=0.1):
    """Rows in random order of three tasks y = x W_t + b_t, two outputs; x's last number says which row it is."""
    rng = np.random.default_rng(0)
    task = rng.permutation(np.repeat([30, 10, 20], SIZES))
    x = rng.normal(size=(len(task), 3)).astype(np.float32)
    weights = {t: rng.normal(size=(3, 2)) for t in (10, 20, 30)}
    y = np.stack([row @ weights[t] + t / 10 for row, t in zip(x, task, strict=True)])
    return x, (y + noise * rng.normal(size=y.shape)).astype(np.float32), task


def identity():
    """A network without parameters to speak of: its features are its inputs."""
    return models.Model(lambda key, x: {"unused": jnp.zeros(1)}, lambda params, x, stats=None: (x, None))


def test_a_task_is_distinct_rows_of_one_task_with_their_targets():
    x, y, task = table()
    pool = RegressionPool.from_arrays(x, y, task)
    assert (pool.tasks, pool.outputs, pool.smallest, pool.largest, pool.names) == (3, 2, 7, 12, ("10", "20", "30"))
    draw = jax.jit(jax.vmap(lambda k, pool: sample_regression(k, pool, 3, 4), (0, None)))
    batch = draw(jax.random.split(jax.random.key(0), 300), pool)
    assert batch.support_y.shape == (300, 3, 2)
    assert batch.classes is None
    seen = []
    for sx, sy, qx, qy in zip(*map(np.asarray, batch[:4]), strict=True):
        rows = [int(np.flatnonzero((x == row).all(1))[0]) for row in np.concatenate([sx, qx])]
        assert len(set(rows)) == 7
        np.testing.assert_array_equal(y[rows], np.concatenate([sy, qy]))
        assert len(set(task[rows])) == 1
        seen.append(task[rows[0]])
    assert np.bincount(seen).max() / 300 < 0.42  # as likely each, whatever its size
    assert set(seen) == {10, 20, 30}


def test_evaluate_scores_ridge_as_scikit_learn_does(key):
    x, y, task = table()
    pool = RegressionPool.from_arrays(x, y, task)
    learner = learners.r2d2(identity(), init_lambda=0.5)
    theta = learner.init(key, jnp.zeros((1, 3)))
    seen = evaluate(learner, theta, pool, key, shots=4, queries=3, episodes=20)
    mse, mae, left, whole = [], [], 0.0, 0.0
    for k in jax.random.split(key, 20):
        e = jax.tree.map(np.asarray, sample_regression(k, pool, 4, 3))
        ones = lambda x: np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)  # noqa: E731
        fit = linear_model.Ridge(0.5, fit_intercept=False).fit(ones(e.support_x), e.support_y)
        guess = fit.predict(ones(e.query_x))
        mse.append(metrics.mean_squared_error(e.query_y, guess))
        mae.append(metrics.mean_absolute_error(e.query_y, guess))
        left += ((guess - e.query_y) ** 2).sum()
        whole += ((e.query_y - e.query_y.mean(0)) ** 2).sum()
    assert seen.metric == "mse"
    np.testing.assert_allclose(seen.per_episode, mse, rtol=1e-3)
    assert seen.mae == pytest.approx(np.mean(mae), rel=1e-3)
    assert seen.r2 == pytest.approx(1 - left / whole, abs=1e-3)
    with pytest.raises(ValueError, match="scored by mse, not accuracy"):
        _ = seen.accuracy


def test_r2_of_one_episode_is_scikit_learns_and_0_for_the_mean(key):
    pool = RegressionPool.from_arrays(*table())
    e = sample_regression(jax.random.split(key, 1)[0], pool, 3, 4)
    guess = jax.random.normal(key, e.query_y.shape)
    for outputs, want in ((guess, None), (jnp.broadcast_to(e.query_y.mean(0), (4, 2)), 0.0), (e.query_y, 1.0)):
        fixed = Learner(
            lambda k, x: {}, lambda t, x, y: (), lambda t, p, x, o=outputs: o, lambda t, e: (jnp.sum(0.0), {})
        )
        seen = evaluate(fixed, {}, pool, key, shots=3, queries=4, episodes=1)
        again = metrics.r2_score(e.query_y, outputs, multioutput="variance_weighted")
        # one variance for both outputs together: each weighs by its own
        assert seen.r2 == pytest.approx(again, abs=1e-5)
        assert want is None or seen.r2 == pytest.approx(want, abs=1e-6)


def test_train_takes_the_pool_and_validates_on_another(key):
    pool = RegressionPool.from_arrays(*table())
    learner = learners.maml(models.mlp(2, (8,)), inner_lr=0.05, inner_steps=1)
    size = {"shots": 3, "queries": 3}
    run = train(
        learner, pool, key, tasks=4, steps=60, log_every=20, val_pool=pool, val_every=30, val_episodes=10,
        optimizer=optax.adam(1e-2), **size,
    )  # fmt: skip
    before = evaluate(learner, learner.init(key, jnp.zeros((1, 3))), pool, key, episodes=50, **size)
    after = evaluate(learner, run.theta, pool, key, episodes=50, **size)
    assert after.mean < before.mean
    with pytest.raises(ValueError, match="are for classes, which a RegressionPool has not"):
        train(learner, pool, key, hard_tasks=True, **size)
    with pytest.raises(ValueError, match="augment 'rotations' is for images"):
        train(learner, pool, key, augment="rotations", **size)
    with pytest.raises(ValueError, match="6 shots \\+ 3 queries, but the smallest task has 7 rows"):
        train(learner, pool, key, shots=6, queries=3)
    assert sources.of_pool(pool, 5, 3, 3) is sources.regressions(3, 3)


@pytest.mark.parametrize(
    ("x", "y", "task", "words"),
    [
        (np.zeros((4, 2), int), np.zeros(4), np.zeros(4, int), "x must be floats, not int64"),
        (np.zeros((4, 2)), np.zeros(4, int), np.zeros(4, int), "y must be floats, not int64"),
        (np.zeros((4, 2)), np.zeros(3), np.zeros(4, int), r"do not fit: want x \[n"),
        (np.zeros(4), np.zeros(4), np.zeros(4, int), r"do not fit: want x \[n"),
        (np.zeros((4, 2)), np.array([0, 1, np.nan, 0]), np.zeros(4, int), "y is not finite.*row 2"),
        (np.zeros((0, 2)), np.zeros(0), np.zeros(0, int), "n > 0"),
    ],
)
def test_tables_that_do_not_fit_are_refused(x, y, task, words):
    with pytest.raises(ValueError, match=words):
        RegressionPool.from_arrays(x, y, task)


def absolute(outputs, y):
    return jnp.abs(outputs - y).mean()


def test_a_users_loss_moves_the_inner_and_the_outer_step(key):
    """One step of MAML on |x w - y| is w - rate x' sign(x w - y) / n, in closed form."""
    net = models.Model(lambda key, x: {"w": jnp.ones((3, 1))}, lambda params, x, stats=None: (x @ params["w"], None))
    x, y, task = table()
    episode = sample_regression(key, RegressionPool.from_arrays(x, y[:, 0], task), 3, 4)
    for make in (learners.maml, learners.fomaml):
        learner = make(net, inner_lr=0.1, inner_steps=1, loss=absolute)
        theta = learner.init(key, x)
        sx, sy, qx, qy = (np.asarray(a) for a in episode[:4])
        w = np.ones((3, 1)) - 0.1 * sx.T @ np.sign(sx @ np.ones((3, 1)) - sy) / len(sx)
        value, seen = learner.loss(theta, episode)
        np.testing.assert_allclose(learner.adapt(theta, episode.support_x, episode.support_y).params["w"], w, rtol=1e-5)
        np.testing.assert_allclose(value, np.abs(qx @ w - qy).mean(), rtol=1e-5)
        np.testing.assert_allclose(seen["mse"], ((qx @ w - qy) ** 2).mean(), rtol=1e-4)


def test_a_users_loss_keeps_the_accuracy_of_labels_and_must_be_one_float():
    logits, y = jnp.array([[2.0, 0.0], [1.0, 3.0], [1.0, 0.0]]), jnp.array([0, 1, 1], jnp.int32)
    hinge = lambda z, y: optax.hinge_loss(z[:, 1] - z[:, 0], 2.0 * y.astype(z.dtype) - 1.0).mean()  # noqa: E731
    value, seen = objective(logits, y, hinge)
    assert value == pytest.approx(np.mean([0, 0, 2]))
    assert seen["accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"loss gives float32 \[3\]: want one float"):
        objective(logits, y, lambda z, y: z[:, 0])
