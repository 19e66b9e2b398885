"""Callbacks: once per logged row, each one, and any may end the run."""

import jax
import numpy as np
import pytest

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run.callbacks import EarlyStopping, TensorBoardWriter

SIZES = {"ways": 2, "shots": 1, "queries": 2, "tasks": 1}


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    return ClassPool.from_arrays(rng.integers(0, 256, (24, 4, 4, 1), np.uint8), np.repeat(np.arange(4), 6))


@pytest.fixture(scope="module")
def learner():
    return learners.protonet(models.mlp(None, (4,)))


def test_every_callback_sees_every_logged_row_and_one_may_stop(pool, learner, key, tmp_path):
    seen, other = [], []

    def stop(row):
        seen.append(row)
        return row["step"] == 6

    run = train(learner, pool, key, steps=20, log_every=2, callbacks=[stop, other.append], out=tmp_path, **SIZES)
    assert [row["step"] for row in seen] == [2, 4, 6]
    assert seen == other == run.history
    assert all(type(row) is dict and all(isinstance(v, int | float) for v in row.values()) for row in seen)
    assert (run.stopped, run.interrupted, int(run.state.step)) == (True, False, 6)
    rest = train(learner, pool, key, steps=20, log_every=2, out=tmp_path, resume=True, **SIZES)
    whole = train(learner, pool, key, steps=20, log_every=2, **SIZES)
    jax.tree.map(np.testing.assert_array_equal, rest.state.theta, whole.state.theta)  # nothing was lost


@pytest.mark.parametrize(
    ("metric", "scores", "stops_after"),
    [
        ("val_accuracy", [0.1, 0.3, 0.2, 0.3, 0.9], 4),  # equal is not better
        ("val_mse", [3.0, 1.0, 2.0, 1.5, 0.1], 4),  # lower is better
        ("val_accuracy", [0.1, 0.2, 0.3, 0.4, 0.5], None),
        ("val_accuracy", [float("nan"), float("nan"), 0.3], 2),  # never finite is never better
    ],
)
def test_early_stopping_counts_validations_without_a_better_score(metric, scores, stops_after):
    stop = EarlyStopping(2, metric)
    asked = [(stop({"step": 0, "loss": 1.0}), stop({metric: score}))[1] for score in scores]
    assert (asked.index(True) + 1 if True in asked else None) == stops_after
    with pytest.raises(ValueError, match="patience of at least 1"):
        EarlyStopping(0)


def test_tensorboard_files_hold_the_rows(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer({"step": 3, "loss": 0.25})
    writer.close()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    assert b"loss" in data
    assert np.float32(0.25).tobytes() in data
