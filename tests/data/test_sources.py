"""Sources of tasks: each is what it says, and the trainer takes any of them, a user's own as well."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import ClassPool, TaskSource, evaluate, learners, models, sample_episode, train
from mtl_jax.data import sources
from mtl_jax.data.batches import sample_batch
from mtl_jax.data.sinusoid import SinusoidPool, sample_sinusoid
from mtl_jax.run.step import compiled_steps

SIDE = (6, 6, 1)


def arrays():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 8)
    return rng.integers(0, 256, (64, *SIDE), np.uint8), y


@pytest.fixture(scope="module")
def pool():
    return ClassPool.from_arrays(*arrays())


@pytest.fixture(scope="module")
def learner():
    return learners.protonet(models.mlp(None, (8,)))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("source", "sample", "of"),
    [
        (sources.episodes(3, 1, 2), partial(sample_episode, ways=3, shots=1, queries=2), None),
        (sources.class_batches(5, "flip_crop"), partial(sample_batch, size=5, augment="flip_crop"), None),
        (sources.sinusoids(4, 5), partial(sample_sinusoid, shots=4, queries=5), SinusoidPool()),
    ],
)  # fmt: skip
def test_a_source_draws_what_its_function_draws(source, sample, of, pool, key):
    of = pool if of is None else of
    assert source.init(key) == ()
    same(source.draw(key, (), of), sample(key, of))


@pytest.mark.parametrize("make", [sources.episodes, sources.hard_tasks, sources.class_batches, sources.host_episodes])
def test_the_same_settings_give_the_same_object(make):
    assert make() is make()
    assert hash(make()) == hash(make())  # a static argument of a compiled step


def test_two_trainings_of_the_same_settings_compile_once(pool, learner, key):
    go = {"ways": 3, "queries": 2, "tasks": 2, "steps": 2}
    train(learner, pool, key, **go)
    before = compiled_steps.cache_info()
    train(learner, pool, jax.random.key(1), **go)
    after = compiled_steps.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


def test_tasks_drawn_on_the_host_are_those_drawn_on_the_device(pool, learner, key):
    on_host = ClassPool.from_arrays(*arrays(), host=True)
    go = {"ways": 3, "queries": 2, "tasks": 2, "steps": 5, "log_every": 1, "augment": "flip_crop"}
    one, two = (train(learner, each, key, **go) for each in (pool, on_host))
    np.testing.assert_allclose([r["loss"] for r in two.history], [r["loss"] for r in one.history], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one.state.theta, two.state.theta)
    seen = evaluate(learner, two.theta, on_host, key, ways=3, queries=2, episodes=37)
    assert seen.per_episode.shape == (37,)
    assert not seen.not_finite


SIZES = [(2, 1, 3), (3, 2, 1), (5, 1, 1)]


def test_several_sizes_are_one_program_and_every_one_is_drawn(pool, learner, key):
    before = compiled_steps.cache_info().misses
    run = train(learner, pool, key, sizes=SIZES, tasks=2, steps=12, log_every=1)
    assert compiled_steps.cache_info().misses == before + 1
    # Each step equals one of the three sizes alone, from the same state: told by the loss of its own tasks.
    source = sources.episodes_of_sizes(SIZES)
    _, run_key, _ = jax.random.split(key, 3)
    keys = jax.random.split(jax.random.fold_in(run_key, 0), 2)
    init_key = jax.random.split(key, 3)[0]
    theta = jax.jit(learner.init)(init_key, jnp.zeros((1, *SIDE)))
    losses = [float(np.mean([learner.loss(theta, draw(k, (), pool))[0] for k in keys])) for draw in source.draws]
    assert min(abs(run.history[0]["loss"] - loss) for loss in losses) < 1e-5
    which = [jax.random.randint(jax.random.fold_in(jax.random.fold_in(run_key, k), 2), (), 0, 3) for k in range(12)]
    assert set(map(int, which)) == {0, 1, 2}
    assert abs(run.history[0]["loss"] - losses[int(which[0])]) < 1e-5


def test_sizes_resume_bit_for_bit(pool, learner, key, tmp_path):
    go = {"sizes": SIZES, "tasks": 2}
    whole = train(learner, pool, key, steps=6, optimizer=_rule(), **go)
    train(learner, pool, key, steps=3, optimizer=_rule(), out=tmp_path / "run", **go)
    rest = train(learner, pool, key, steps=6, optimizer=_rule(), out=tmp_path / "run", resume=True, **go)
    same(whole.state.theta, rest.state.theta)


def _rule():
    from mtl_jax.run.optimizer import meta_optimizer

    return meta_optimizer(1e-2, 6)


def test_hard_steps_draw_from_the_failed_classes_alone(pool, key):
    source = sources.hard_tasks(2, 1, 1, tasks=2, every=1)
    kept = source.init(key)
    kept = kept._replace(classes=jnp.array([5, 6], jnp.int32), recorded=jnp.int32(2), steps=jnp.int32(1))
    draw = jax.jit(jax.vmap(lambda key, kept: source.draw(key, kept, pool).classes, (0, None)))
    draws, random = (
        [set(row.tolist()) for row in draw(jax.random.split(key, 20), state)] for state in (kept, source.init(key))
    )
    assert all(classes == {5, 6} for classes in draws)
    assert any(classes != {5, 6} for classes in random)


def test_unless_told_hard_steps_come_when_enough_classes_are_kept(key):
    assert sources.hard_tasks(5, 1, 15, tasks=2).init(key).classes.shape == (6,)  # three steps of two
    assert sources.hard_tasks(5, 1, 15, tasks=16).init(key).classes.shape == (16,)


def test_a_users_own_source_remembers_and_sees_what_came_of_its_tasks(pool, learner, key, monkeypatch):
    """Episodes of the classes of highest index first; its state counts steps, and keeps the last accuracies."""
    newer = (("xla_cpu_use_fusion_emitters", True),)  # by the older one, two programs' last digits may differ
    monkeypatch.setattr("mtl_jax.run.train.compiler_options", lambda task, tasks: newer)

    def update(state, tasks, outcome):
        assert tasks.support_x is None  # inputs of a whole meta-batch are not kept
        assert outcome["outputs"].shape == (3, 4, 2)  # tasks, queries, ways
        assert tasks.classes.shape == (3, 2)
        return state[0] + 1, outcome["accuracy"]

    source = TaskSource(
        lambda key: (jnp.int32(0), jnp.zeros(3)),
        lambda key, state, pool: sample_episode(key, pool, 2, 1, 2),
        update,
    )
    run = train(learner, pool, key, source=source, tasks=3, steps=4, log_every=4)
    count, accuracies = run.state.tasks
    assert int(count) == 4
    assert ((accuracies >= 0) & (accuracies <= 1)).all()
    plain = train(learner, pool, key, source=sources.episodes(2, 1, 2), tasks=3, steps=4, log_every=4)
    same(run.state.theta, plain.state.theta)  # looking on changes nothing


def test_a_source_whose_randomness_is_numpys_is_told_of(pool, learner, key, caplog):
    def numpys(key, state, pool):
        return sample_episode(jax.random.key(np.random.default_rng().integers(1000)), pool, 2, 1, 2)

    train(learner, pool, key, source=TaskSource(lambda key: (), numpys), tasks=1, steps=1)
    assert "two draws of the source are the same task" in caplog.text
    caplog.clear()
    train(learner, pool, key, source=sources.episodes(2, 1, 2), tasks=1, steps=1)
    assert not caplog.records


def test_what_excludes_the_rest_is_refused(pool, learner, key):
    with pytest.raises(ValueError, match="sizes and hard_tasks each say where tasks come from"):
        train(learner, pool, key, sizes=SIZES, hard_tasks=True)
    with pytest.raises(ValueError, match="9 ways from a pool of 8"):
        train(learner, pool, key, sizes=[(9, 1, 1)])
    with pytest.raises(ValueError, match="sizes must be"):
        sources.episodes_of_sizes([(1, 2)])
    with pytest.raises(ValueError, match="2 sizes cannot be averaged"):
        evaluate(learner, {}, pool, key, source=sources.episodes_of_sizes(SIZES[:2]))
    with pytest.raises(ValueError, match="drawn on the device"):
        train(learner, ClassPool.from_arrays(*arrays(), host=True), key, hard_tasks=True, ways=2, queries=1)
