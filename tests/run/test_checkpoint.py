"""Which checkpoints a run keeps, and the best of them read together."""

import os

import jax
import numpy as np
import pytest

from mtl_jax import ClassPool, evaluate, learners, models, train
from mtl_jax.app import load_run
from mtl_jax.app.launch import launch
from mtl_jax.app.methods import resolve_settings
from mtl_jax.learners.ensemble import ensemble
from mtl_jax.run.checkpoint import CheckpointError, load_best, load_theta
from mtl_jax.run.optimizer import meta_optimizer
from mtl_jax.run.saved import read_scores
from mtl_jax.run.seeds import train_seeds

SIZES = {"ways": 3, "shots": 1, "queries": 3, "tasks": 2}


@pytest.fixture(scope="module")
def pool():
    x = np.random.default_rng(0).uniform(0, 1, (6 * 8, 6, 6, 1))
    return ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))


@pytest.fixture(scope="module")
def learner():
    return learners.maml(models.mlp(3, (8,)), 0.1, 2)


def folders(run):
    return {int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit()}


def test_the_best_validations_are_kept_also_over_a_pause_and_read_best_first(pool, learner, key, tmp_path):
    go = {**SIZES, "optimizer": meta_optimizer(1e-1, 12), "val_pool": pool, "val_every": 1, "val_episodes": 4}
    go |= {"out": tmp_path / "run", "keep_best": 3}
    train(learner, pool, key, steps=7, **go)
    run = train(learner, pool, key, steps=12, resume=True, **go)
    scores = {row["step"]: row["val_accuracy"] for row in run.history}
    assert len(set(scores.values())) > 3  # a network that learns nothing would show nothing
    best = sorted(scores, key=lambda step: (-scores[step], step))[:3]
    assert folders(tmp_path / "run") == {*best, 11, 12}
    checkpoints = tmp_path / "run" / "checkpoints"
    assert list(read_scores(checkpoints).items())[:3] == [(step, pytest.approx(scores[step])) for step in best]
    thetas = load_best(checkpoints, run.theta, 3)
    for best_theta in (run.theta, load_theta(checkpoints, run.theta)):
        jax.tree.map(lambda many, one: np.testing.assert_array_equal(many[0], one), thetas, best_theta)
    one = evaluate(learner, run.theta, pool, key, ways=3, queries=3, episodes=20)
    alike = jax.tree.map(lambda a: np.stack((a, a)), run.theta)
    assert evaluate(ensemble(learner), alike, pool, key, ways=3, queries=3, episodes=20).mean == one.mean


def test_more_checkpoints_than_validations_are_refused_before_training(pool, learner, key, tmp_path):
    for trainer, keys, out in ((train, key, tmp_path / "run"), (train_seeds, key[None], [tmp_path / "run"])):
        go = {**SIZES, "steps": 7, "val_every": 2, "keep_best": 5}
        with pytest.raises(ValueError, match=r"keep_best 5 wants as many .* every 2 have 4: lower val_every to 1, or"):
            trainer(learner, pool, keys, val_pool=pool, out=out, **go)
        with pytest.raises(ValueError, match="keep_best 5 wants a validation pool to choose them by"):
            trainer(learner, pool, keys, out=out, **go)
        with pytest.raises(ValueError, match="keep_best 5 wants a folder `out` to keep them in"):
            trainer(learner, pool, keys, val_pool=pool, **go)
    assert not (tmp_path / "run").exists()


def test_more_than_are_kept_are_refused_with_both_numbers(pool, learner, key, tmp_path):
    run = train(learner, pool, key, steps=2, val_pool=pool, val_every=1, val_episodes=2, out=tmp_path / "run", **SIZES)
    with pytest.raises(CheckpointError, match=r"not 5: ask for [12] at most, or train with --keep-best 5"):
        load_best(tmp_path / "run" / "checkpoints", run.theta, 5)


def test_a_damaged_member_is_not_left_out_in_silence(pool, learner, key, tmp_path):
    go = {**SIZES, "val_pool": pool, "val_every": 1, "val_episodes": 2, "keep_best": 2, "out": tmp_path / "run"}
    run = train(learner, pool, key, steps=3, **go)
    second = list(read_scores(tmp_path / "run" / "checkpoints"))[1]
    for file in (tmp_path / "run" / "checkpoints" / str(second)).rglob("*"):
        if file.is_file():
            os.truncate(file, min(10, file.stat().st_size))
    with pytest.raises(CheckpointError, match="damaged"):
        load_best(tmp_path / "run" / "checkpoints", run.theta, 2)


@pytest.mark.filterwarnings("ignore:.*no splits of its own")
@pytest.mark.parametrize("shape", [(6, 6, 1), (4, 6, 2)])
def test_a_run_on_arrays_is_read_as_an_ensemble(shape, tmp_path):
    data = tmp_path / "data.npz"
    x = np.random.default_rng(0).uniform(0, 1, (6 * 8, *shape)).astype(np.float32)
    np.savez(data, x=x, y=np.repeat(np.arange(6), 8))
    given = {"learner": "protonet", "dataset": f"npz:{data}", "model": "linear", "keep_best": 2, "val_every": 1}
    launch(resolve_settings({**given, "ways": 3, "queries": 2, "tasks": 2, "steps": 3}), tmp_path / "run", quiet=True)
    one, two = load_run(tmp_path / "run"), load_run(tmp_path / "run", ensemble=2)
    jax.tree.map(lambda single, many: np.testing.assert_array_equal(single, many[0]), one.theta, two.theta)
    with pytest.raises(ValueError, match="one network"):
        load_run("protonet-glyphs", ensemble=2)
