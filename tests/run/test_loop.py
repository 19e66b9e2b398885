"""The trainer and the evaluator: what a run must keep to, whatever the learner."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, evaluate, learners, models, train
from mtl_jax.app import load_run
from mtl_jax.data import sources
from mtl_jax.data.episodes import task_keys
from mtl_jax.run import step as step_module
from mtl_jax.run.checkpoint import CheckpointError, load_theta, restore
from mtl_jax.run.loop import NonFiniteError
from mtl_jax.run.optimizer import freeze, meta_optimizer

SIZES = {"ways": 3, "shots": 1, "queries": 3, "tasks": 2}


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.4, (6 * 8, 6, 6, 1)) + 0.1 * np.repeat(np.arange(6), 8)[:, None, None, None]
    return ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))


@pytest.fixture(scope="module")
def learner():
    return learners.maml(models.mlp(3, (8,)), 0.1, 2)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(pool, learner, key, tmp_path):
    rule = meta_optimizer(1e-2, 6)
    go = {**SIZES, "optimizer": rule, "val_pool": pool, "val_every": 3, "val_episodes": 4, "log_every": 2}
    whole = train(learner, pool, key, steps=6, **go)
    train(learner, pool, key, steps=3, out=tmp_path / "run", **go)
    rest = train(learner, pool, key, steps=6, out=tmp_path / "run", resume=True, **go)
    assert int(rest.state.step) == 6
    same(whole.state.theta, rest.state.theta)
    same(whole.state.opt_state, rest.state.opt_state)
    assert [r["step"] for r in rest.history] == [2, 3, 4, 6]
    assert whole.score == rest.score


def test_a_run_with_keys_of_another_implementation_resumes(pool, learner, tmp_path):
    key = jax.random.key(0, impl="rbg")
    whole = train(learner, pool, key, steps=4, optimizer=meta_optimizer(1e-2, 4), **SIZES)
    train(learner, pool, key, steps=2, optimizer=meta_optimizer(1e-2, 4), out=tmp_path / "run", **SIZES)
    rest = train(
        learner, pool, key, steps=4, optimizer=meta_optimizer(1e-2, 4), out=tmp_path / "run", resume=True, **SIZES
    )
    same(whole.state.theta, rest.state.theta)


def test_a_home_folder_is_understood(pool, learner, key, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = train(learner, pool, key, steps=1, out="~/run", **SIZES)
    assert run.folder == tmp_path / "run"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"steps": 1.5}, "steps must be a whole number"), ({"val_episodes": 0}, "val_episodes must be at least 1"),
     ({"tasks": True}, "tasks must be a whole number"), ({"task_chunk": 0}, "task_chunk must be at least 1")],
)  # fmt: skip
def test_counts_are_checked_at_once(pool, learner, key, given, said):
    with pytest.raises(ValueError, match=said):
        train(learner, pool, key, **{**SIZES, **given})


def test_it_trains_where_a_user_has_jax_refuse_to_broadcast(pool, key):
    with jax.numpy_rank_promotion("raise"):
        learner = learners.maml(models.conv4(3, 4, downsample="stride"), 0.1, 1)
        run = train(learner, pool, key, steps=1, val_pool=pool, val_episodes=2, augment="flip_crop", **SIZES)
    assert np.isfinite(run.history[-1]["loss"])


def test_each_jitted_step_compiles_once(pool, learner, key, monkeypatch):
    made = []

    def spy(*args, **given):
        made.append(step_module.compiled_steps(*args, **given))
        return made[-1]

    monkeypatch.setattr("mtl_jax.run.train.compiled_steps", spy)
    run = train(learner, pool, key, steps=40, log_every=7, **SIZES)
    assert [program._cache_size() for program in made] == [1]
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_evaluate_repeats_and_its_interval_is_the_formula(pool, learner, key):
    theta = learner.init(key, jnp.zeros((3, 6, 6, 1)))
    sizes = {"ways": 3, "shots": 1, "queries": 3}
    first, second = (evaluate(learner, theta, pool, key, episodes=7, task_chunk=c, **sizes) for c in (2, 7))
    np.testing.assert_array_equal(first.per_episode, second.per_episode)
    assert first.per_episode.shape == (7,)
    assert first.ci95 == pytest.approx(1.96 * np.std(first.per_episode, ddof=1) / 7**0.5)
    assert first.accuracy == pytest.approx(first.per_episode.mean())
    with pytest.raises(ValueError, match="episodes must be at least 1, not 0"):
        evaluate(learner, theta, pool, key, episodes=0, **sizes)


def test_random_labels_stay_at_chance(key):
    rng = np.random.default_rng(1)
    noise = ClassPool.from_arrays(rng.uniform(0, 1, (90, 6, 6, 1)), np.repeat(np.arange(6), 15))
    learner = learners.maml(models.mlp(3, (8,)), 0.1, 2)
    run = train(learner, noise, key, steps=30, **SIZES)
    fresh = ClassPool.from_arrays(rng.uniform(0, 1, (900, 6, 6, 1)), np.repeat(np.arange(6), 150))
    seen = evaluate(learner, run.theta, fresh, key, ways=3, shots=1, queries=10, episodes=300)
    assert abs(seen.accuracy - 1 / 3) < 2 * seen.ci95


def test_a_step_that_is_not_finite_stops_the_run_and_keeps_the_last_state(pool, learner, key, tmp_path):
    def hopeless(theta, episode):
        loss, metrics = learner.loss(theta, episode)
        return loss + jnp.where(theta["head"]["bias"].sum() > 1.5, jnp.nan, -9.0 * theta["head"]["bias"].sum()), metrics

    bad = learner._replace(loss=hopeless)
    rule = optax.sgd(0.02)
    with pytest.raises(NonFiniteError, match="not finite at step 4; step 3 is kept: try a lower"):
        train(bad, pool, key, steps=50, optimizer=rule, out=tmp_path / "run", **SIZES)
    theta = learner.init(key, jnp.zeros((3, 6, 6, 1)))
    like = step_module.TrainState(theta, rule.init(theta), jnp.int32(0), key)
    kept = restore(tmp_path / "run" / "checkpoints", like)
    assert int(kept.step) == 3
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(kept.theta))


def test_a_step_that_is_not_finite_can_be_left_out_and_is_counted(pool, learner, key):
    """Every third step's loss is NaN; the others are those of a run that knows nothing of it."""

    def at(step):
        bad = jnp.where(step % 3 == 1, jnp.nan, 0.0)
        return learner._replace(loss=lambda theta, task: jax.tree.map(lambda v: v + bad, learner.loss(theta, task)))

    go = {"steps": 6, "optimizer": optax.sgd(0.1), "log_every": 6, **SIZES}
    run = train(at, pool, key, on_nonfinite="skip", **go)
    row = run.history[-1]
    assert (row["step"], row["skipped"], int(run.state.step)) == (6, 2, 6)
    assert np.isfinite(row["loss"])
    theta = learner.init(jax.random.split(key, 3)[0], jnp.zeros((3, 6, 6, 1)))
    source, run_key = sources.episodes(3, 1, 3), jax.random.split(key, 3)[1]
    for step in (0, 2, 3, 5):
        tasks = jax.vmap(lambda k: source.draw(k, (), pool))(task_keys(run_key, step, SIZES["tasks"]))
        grads = jax.grad(lambda t, tasks=tasks: jax.vmap(lambda task: learner.loss(t, task)[0])(tasks).mean())(theta)
        theta = jax.tree.map(lambda p, g: p - 0.1 * g, theta, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run.state.theta, theta)
    dead = learner._replace(loss=lambda theta, task: jax.tree.map(lambda v: v * jnp.nan, learner.loss(theta, task)))
    with pytest.raises(NonFiniteError, match="no step up to 6 since the last row is finite"):
        train(dead, pool, key, on_nonfinite="skip", **go)
    with pytest.raises(ValueError, match="on_nonfinite is 'stop' or 'skip', not 'ignore'"):
        train(learner, pool, key, on_nonfinite="ignore", **SIZES)


def test_frozen_weights_do_not_move_under_weight_decay(key):
    theta = {"frozen": {"w": jnp.ones(3)}, "w": jnp.ones(3)}
    rule = freeze(optax.adamw(0.1, weight_decay=0.5), theta)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(jax.tree.map(jnp.zeros_like, theta), rule.init(theta), theta)
    assert (updates["frozen"]["w"] == 0).all()
    assert (updates["w"] < 0).all()


def test_a_run_folder_is_not_overwritten_and_must_exist_to_resume(pool, learner, key, tmp_path):
    train(learner, pool, key, steps=1, out=tmp_path / "run", **SIZES)
    with pytest.raises(ValueError, match="already holds a run: resume it"):
        train(learner, pool, key, steps=1, out=tmp_path / "run", **SIZES)
    begun = train(learner, pool, key, steps=1, out=tmp_path / "none", resume=True, **SIZES)
    assert int(begun.state.step) == 1  # one command begins a run and goes on with it
    other = learners.maml(models.mlp(3, (9,)), 0.1, 2)
    with pytest.raises(CheckpointError, match="another model"):
        train(other, pool, key, steps=2, out=tmp_path / "run", resume=True, **SIZES)


def test_progress_is_shown_where_it_is_wanted_and_nothing_is_printed_elsewhere(pool, learner, key, capsys):
    go = {**SIZES, "steps": 2, "val_pool": pool, "val_every": 2, "val_episodes": 2}
    train(learner, pool, key, **go)
    assert capsys.readouterr() == ("", "")
    train(learner, pool, key, progress=True, **go)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("train 2/2  loss")
    assert "val_accuracy" in err
    assert len(err.splitlines()) == 1


def test_a_run_of_python_keeps_its_sizes_and_says_how_to_read_it(pool, learner, key, tmp_path):
    out = tmp_path / "run"
    run = train(learner, pool, key, steps=1, out=out, **SIZES)
    config = json.loads((out / "config.json").read_text())
    assert (config["ways"], config["shots"], config["queries"], config["steps"]) == (3, 1, 3, 1)
    again = train(learner, pool, key, steps=2, out=out, resume=True, **SIZES)
    assert int(again.state.step) == 2
    assert json.loads((out / "config.json").read_text()) == config
    with pytest.raises(ValueError, match=r"trained in Python.*load_theta"):
        load_run(out)
    same(load_theta(out / "checkpoints", run.theta), again.theta)
